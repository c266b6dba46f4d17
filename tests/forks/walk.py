"""Buy in the forked shop that FORK names, and print the observations as JSON."""

import json
import os
import sys
from decimal import Decimal

import django


def bases(name):
    """Return the qualified names of the base classes of a checkout URL's view."""
    from django.urls import resolve, reverse

    view = resolve(reverse(f"checkout:{name}")).func.view_class
    return [f"{base.__module__}.{base.__name__}" for base in view.__mro__]


def buy(method, product):
    """Place an order as a guest by a payment method; return what the pages answered."""
    from django.test import Client
    from django.urls import reverse

    from tests.support.shopping import go_to_payment, place_order

    client = Client()
    go_to_payment(client, product)
    step = client.get(reverse("checkout:payment-method"))
    chosen = client.post(reverse("checkout:payment-method"), {"method": method})
    preview = client.get(reverse("checkout:preview"))
    placed = place_order(client)
    paying = client.get(placed["Location"]) if method == "bitsby" else None
    return {
        "step": step.status_code,
        "chosen": chosen.get("Location"),
        "preview": preview.content.decode(),
        "placed": placed.get("Location"),
        "paying": paying and paying.get("Location"),
        "fork_handled": client.session.get("fork_handled"),
    }


def main():
    """Set up the shop, collect its views and checks, and buy by each method on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.forks.settings")
    django.setup()
    from django.core.checks import run_checks
    from django.core.management import call_command
    from oscar.core.loading import get_model
    from oscar.test import factories
    from responses import RequestsMock

    from tests.support.bitsby import FakeBitsby

    call_command("migrate", run_syncdb=True, verbosity=0)
    get_model("address", "Country").objects.create(
        iso_3166_1_a2="DE", iso_3166_1_a3="DEU", is_shipping_country=True
    )
    product = factories.create_product(price=Decimal("10.00"), num_in_stock=10)
    found = {
        "views": {name: bases(name) for name in ("payment-method", "payment-details", "preview")},
        "checks": [
            {"id": message.id, "text": f"{message.msg} {message.hint}"}
            for message in run_checks()
            if (message.id or "").startswith("oscar_bitsby.")
        ],
    }
    with RequestsMock(assert_all_requests_are_fired=False) as mock:
        FakeBitsby(mock)
        found["walks"] = {method: buy(method, product) for method in sys.argv[1:]}
    found["orders"] = [
        {
            "class": f"{type(order).__module__}.{type(order).__name__}",
            "number": order.number,
            "status": order.status,
            "sources": [source.source_type.code for source in order.sources.all()],
            "invoices": [invoice.status for invoice in order.bitsby_invoices.all()],
            "gift_message": getattr(order, "gift_message", None),
        }
        for order in get_model("order", "Order").objects.order_by("pk")
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
