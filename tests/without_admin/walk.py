"""Migrate, buy and act as staff in the shop without the admin; print what was seen as JSON."""

import io
import json
import os
from decimal import Decimal

import django


def prepare():
    """Plan the migrations, create the tables and run the checks; return what they say."""
    from django.core.checks import run_checks
    from django.core.management import call_command
    from django.test.utils import override_settings

    from tests.support.no_migrations import NoMigrations

    plan = io.StringIO()
    call_command("migrate", plan=True, stdout=plan)
    # The tables straight from the models: Oscar's migrations would take half a minute.
    with override_settings(MIGRATION_MODULES=NoMigrations()):
        call_command("migrate", run_syncdb=True, verbosity=0)
    return {"plan": plan.getvalue(), "checks": [message.id for message in run_checks()]}


def buy_as_guest():
    """Place an order and go to pay it; return the invoice, and what the pages answered."""
    from django.test import Client
    from oscar.core.loading import get_model
    from oscar.test import factories

    from oscar_bitsby.models import BitsbyInvoice
    from oscar_bitsby.orders import signed_urls
    from tests.support.shopping import buy

    get_model("address", "Country").objects.create(
        iso_3166_1_a2="DE", iso_3166_1_a3="DEU", is_shipping_country=True
    )
    client = Client()
    paying = buy(client, factories.create_product(price=Decimal("10.00"), num_in_stock=10))
    invoice = BitsbyInvoice.objects.get()
    order_page = client.get(signed_urls.order_url(invoice.order))
    return invoice, {"paying": paying["Location"], "order page": order_page.status_code}


def act_as_staff(fake, invoice):
    """Bind one payment and dismiss another; return what was answered, and what became of it."""
    from django.urls import reverse

    from oscar_bitsby.staff import binding
    from tests.support import staff

    client = staff.log_in("staff", *staff.MAY_BIND)
    short, strange = staff.receive_payment(fake), staff.receive_payment(fake)
    staff.accept_bindings(fake, invoice)
    urls = [
        reverse(staff.INBOX),
        reverse(staff.INVOICES),
        staff.order_url(invoice.order_number),
        staff.bind_url("dashboard", invoice.order),
        reverse("oscar_bitsby:dashboard-export") + "?from=2000-01-01&to=2200-01-01&format=csv",
    ]
    return {
        "pages": [client.get(url).status_code for url in urls],
        "bound": binding.bind(invoice, short.bitsby_id, client.user, "theirs").message,
        "dismissed": staff.perform(client, strange, "dismiss", note="not ours"),
        "booked": staff.bookings_of(invoice.order),
        "status": staff.status_of(invoice.order),
        "short": str(short.bitsby_id),
        "refund": refund(invoice.order),
    }


def refund(order):
    """Request and open the refund of an order; return the statuses of the pages."""
    from django.urls import reverse

    from oscar_bitsby.models import BitsbyRefund
    from tests.support import staff

    client = staff.log_in("refunder", "oscar_bitsby.refund_payment")
    url = reverse("oscar_bitsby:dashboard-refund-order", args=[order.pk])
    pages = [client.get(url), client.post(url, {"what": "full", "confirm": "1"})]
    page = reverse("oscar_bitsby:dashboard-refund", args=[BitsbyRefund.objects.get().pk])
    return [response.status_code for response in (*pages, client.get(page))]


def main():
    """Do everything in the order in which a shop meets it."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.without_admin.settings"
    django.setup()
    found = prepare()
    from responses import RequestsMock

    from tests.support.bitsby import FakeBitsby

    with RequestsMock(assert_all_requests_are_fired=False) as mock:
        fake = FakeBitsby(mock)
        invoice, found["buyer"] = buy_as_guest()
        found["staff"] = act_as_staff(fake, invoice)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
