"""Bind from the order admin, and read our rows in the admin."""

import re
import uuid

import pytest
from django.contrib import admin
from django.contrib.admin.sites import site
from django.urls import NoReverseMatch, reverse
from oscar.apps.order.admin import OrderAdmin
from oscar.core.loading import get_model

from oscar_bitsby.choices import AuditState
from oscar_bitsby.models import AuditRun, BitsbyInvoice, WebhookDelivery
from oscar_bitsby.staff.order_admin import OrderAdminMixin, extend_order_admin
from tests.support import bitsby
from tests.support.refunds import request_refund, sent_refund
from tests.support.staff import (
    EVIL,
    HOSTILE,
    MAY_BIND,
    Page,
    assert_escaped,
    bind_url,
    create_payments,
    delete_order,
    log_in,
    message_after,
    order_url,
    receive_payment,
)

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

LIST = "admin:order_order_changelist"
ACTION = "bind_bitsby_payment"
EDIT = ("order.add_order", "order.change_order", "order.delete_order")
MODELS = ("bitsbyinvoice", "bitsbypayment", "bitsbyrefund", "webhookdelivery")
NIL = str(uuid.UUID(int=0))
VIEW = tuple(f"oscar_bitsby.view_{model}" for model in MODELS)


@pytest.fixture
def viewer(db):
    """The browser of a member of staff who may read our rows."""
    return log_in("viewer", *VIEW)


@pytest.fixture
def staff_user(django_user_model):
    """The member of staff who makes the refunds."""
    return django_user_model.objects.create_user("cashier")


@pytest.fixture
def editor(db):
    """The browser of a member of staff who may edit orders and not bind payments."""
    return log_in("editor", "order.view_order", *EDIT)


def select(client, *orders, **fields):
    """Run the action on those orders."""
    selected = [order.pk for order in orders]
    values = {"action": ACTION, "index": "0", "_selected_action": selected}
    return client.post(reverse(LIST), values | fields)


def change_order_url(order):
    return reverse("admin:order_order_change", args=[order.pk])


def list_url(model):
    return reverse(f"admin:oscar_bitsby_{model}_changelist")


# The action and the button


def test_action_opens_the_binding_page_of_the_selected_order(invoice, staff):
    """One order selected: its binding page opens."""
    assert f'value="{ACTION}"' in staff.get(reverse(LIST)).content.decode()

    response = select(staff, invoice.order)

    assert response.status_code == 302
    assert response["Location"] == bind_url("admin", invoice.order)


@pytest.mark.parametrize(
    ("selected", "fields", "text"),
    [
        (0, {}, "Items must be selected"),
        (1, {"select_across": "1"}, "Select exactly one order"),
        (2, {}, "Select exactly one order"),
        (3, {}, "Select exactly one order"),
    ],
)
def test_action_needs_exactly_one_order(place, invoice_for, staff, selected, fields, text):
    """No order, several, or "select all" over several: a message, and the list again."""
    orders = [place(), place(), place()]
    for order in orders:
        invoice_for(order)

    assert text in message_after(staff, select(staff, *orders[:selected], **fields))


def test_action_on_an_order_without_an_open_invoice_shows_a_message(place, invoice_for, staff):
    """The message names the order and why nothing can be bound to it."""
    bare, paid = place(), place()
    invoice_for(paid, "paid")

    for order, text in ((bare, "has no Bitsby invoice"), (paid, "is already paid")):
        response = select(staff, order)
        assert response["Location"].startswith(reverse(LIST))
        assert f"Order {order.number} {text}" in message_after(staff, response)


def test_order_with_a_paid_and_an_open_invoice_can_be_bound_to(order, invoice_for, staff):
    """A second payment may belong to another invoice than the paid one."""
    invoice_for(order, "paid")
    invoice_for(order, "expired")

    assert select(staff, order)["Location"] == bind_url("admin", order)


def test_order_page_and_binding_page_link_to_each_other(fake, invoice, staff):
    """The change page links to the binding page, and that one back to the order."""
    change = change_order_url(invoice.order)

    page = Page(staff.get(change))
    url = bind_url("admin", invoice.order)
    assert url in page.links
    assert "Bind a Bitsby payment" in page.text

    binding = Page(staff.get(url))
    assert f"Bind a Bitsby payment to order {invoice.order_number}" in binding.text
    assert change in binding.links
    assert reverse(LIST) in binding.links


def test_without_the_permission_there_is_neither_action_nor_button(invoice, editor):
    """Staff who may edit orders but not bind see nothing of it; a forged action does nothing."""
    assert ACTION not in editor.get(reverse(LIST)).content.decode()
    page = Page(editor.get(change_order_url(invoice.order)))
    assert bind_url("admin", invoice.order) not in page.links
    assert "Bind a Bitsby payment" not in page.text
    forged = select(editor, invoice.order)
    assert bind_url("admin", invoice.order) != forged.headers.get("Location")


@pytest.mark.parametrize("key", ["0", "999999", "abc", "1/2", "%C2%B2", "-1", "1.5"])
def test_binding_page_of_a_missing_order_is_not_found(invoice, staff, key):
    """The page of a missing order is a 404, whatever the URL holds."""
    response = staff.get(f"/admin/order/order/{key}/bitsby/")

    assert response.status_code == 404


def test_orders_can_still_be_added_and_changed_in_the_admin(invoice, editor):
    """The shop's own forms of an order work as before, to add one and to change one."""
    assert editor.get(reverse("admin:order_order_add")).status_code == 200
    page = editor.get(change_order_url(invoice.order))
    assert page.status_code == 200
    assert "guest_email" in page.content.decode()
    for name in ("delete", "history"):
        url = reverse(f"admin:order_order_{name}", args=[invoice.order.pk])
        assert editor.get(url).status_code == 200


def create_template(settings, folder, name):
    """Create a template of the shop's for the page of an order."""
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(
        '{% extends "admin/change_form.html" %}'
        "{% block object-tools-items %}<li>Print the label</li>{{ block.super }}{% endblock %}"
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(folder)]}]


def test_template_of_the_shop_for_the_order_page_is_kept(invoice, staff, settings, tmp_path):
    """A shop with its own ``admin/order/order/change_form.html`` sees that with our button."""
    create_template(settings, tmp_path, "admin/order/order/change_form.html")

    page = Page(staff.get(change_order_url(invoice.order)))

    assert "Bind a Bitsby payment" in page.text
    assert "Print the label" in page.text


# Extending the shop's order admin


@pytest.fixture
def registry():
    """Put the shop's registration of orders back after the test."""
    before = site._registry.get(Order)
    yield site
    site._registry.pop(Order, None)
    site._registry[Order] = before


def test_oscars_order_admin_is_extended():
    """The registered admin is our mixin before Oscar's class, whose features stay."""
    registered = type(admin.site._registry[Order])

    names = [parent.__name__ for parent in registered.__mro__]
    assert issubclass(registered, OrderAdmin)
    assert names.index("OrderAdminMixin") < registered.__mro__.index(OrderAdmin)
    assert registered.__name__ == "OrderAdmin"
    assert admin.site._registry[Order].list_display == OrderAdmin.list_display


def test_extending_twice_changes_nothing(registry):
    """Running it again leaves the very same admin in place, with one action."""
    before = registry._registry[Order]

    extend_order_admin()

    assert registry._registry[Order] is before
    assert type(before).__mro__.count(OrderAdminMixin) == 1


def test_shop_without_an_order_admin_gets_none(registry):
    """Where orders are not in the admin, we do not add them."""
    registry.unregister(Order)

    extend_order_admin()

    assert Order not in registry._registry


def test_order_admin_of_the_shop_keeps_its_features(
    registry, rf, staff, invoice, settings, tmp_path
):
    """A shop's order admin keeps its actions, URLs and template, and gets ours, too."""

    @admin.action(description="Ship")
    def ship(modeladmin, request, queryset):
        """Do nothing."""

    class ShopAdmin(admin.ModelAdmin):
        list_display = ("number",)
        actions = (ship,)
        change_form_template = "shop/order.html"

    create_template(settings, tmp_path, "shop/order.html")
    registry.unregister(Order)
    registry.register(Order, ShopAdmin)

    extend_order_admin()

    extended = registry._registry[Order]
    request = rf.get("/")
    request.user = staff.user
    assert isinstance(extended, OrderAdminMixin)
    assert isinstance(extended, ShopAdmin)
    assert {"ship", ACTION} <= set(extended.get_actions(request))
    names = [url.name for url in extended.get_urls()]
    assert "oscar_bitsby_bind" in names
    assert "order_order_change" in names
    page = Page(extended.change_view(request, str(invoice.order.pk)).render())
    assert "Print the label" in page.text
    assert bind_url("admin", invoice.order) in page.links


# Rows


@pytest.fixture
def records(fake, place, invoice_for, staff_user):
    """Return two rows of each model: invoices with a payment, its refund and a delivery each."""
    found = {model: [] for model in MODELS}
    for _ in range(2):
        invoice = invoice_for(place())
        found["bitsbyinvoice"].append(invoice)
        payment = receive_payment(fake, invoice)
        found["bitsbypayment"].append(payment)
        found["bitsbyrefund"].append(sent_refund(staff_user, payment, "8.00", note=EVIL))
        delivery = WebhookDelivery.objects.create(
            invoice=invoice, body=f'{{"a": "{EVIL}"}}', answered=200, outcome=EVIL
        )
        found["webhookdelivery"].append(delivery)
    WebhookDelivery.objects.update(headers={"X": EVIL})
    return found


def rows_of(response):
    return len(re.findall(r'<th class="field-', response.content.decode()))


@pytest.mark.parametrize("model", MODELS)
def test_rows_can_be_read_and_not_changed(records, admin_client, model):
    """List and page open; adding, changing and deleting are refused even to a superuser."""
    record = records[model][0]
    name = f"admin:oscar_bitsby_{model}"
    add = reverse(f"{name}_add")
    change, delete = (reverse(f"{name}_{verb}", args=[record.pk]) for verb in ("change", "delete"))

    listed = admin_client.get(list_url(model))
    shown = admin_client.get(change)

    assert listed.status_code == shown.status_code == 200
    assert rows_of(listed) == 2
    for response in (listed, shown):
        html = response.content.decode()
        assert "<script>alert(1)" not in html
        assert 'name="_save"' not in html
        assert add not in html
        assert "delete_selected" not in html
    assert admin_client.get(add).status_code == 403
    for url in (add, change, delete):
        assert admin_client.post(url, {"post": "yes", "status": "paid"}).status_code == 403
    deletion = {"action": "delete_selected", "_selected_action": [record.pk], "post": "yes"}
    admin_client.post(list_url(model), deletion)
    assert type(record).objects.count() == 2


@pytest.mark.parametrize("model", MODELS)
def test_rows_need_the_view_permission(records, model):
    """Staff without the view permission are refused the list and the page."""
    staff = log_in("other", *MAY_BIND)

    assert staff.get(list_url(model)).status_code == 403
    assert staff.get(f"{list_url(model)}{records[model][0].pk}/change/").status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_rows_are_found_by_whole_values(records, viewer, model):
    """Number, uid, id and hash, in any case, find their row; other texts find none."""
    invoice, payment = records["bitsbyinvoice"][0], records["bitsbypayment"][0]
    refund = records["bitsbyrefund"][0]
    values = [invoice.order_number]
    if model != "bitsbyrefund":
        values += [invoice.uid, str(invoice.bitsby_id)]
    else:
        values += [refund.transaction_hash, refund.transaction_hash.upper()]
    if model != "webhookdelivery":
        values += [str(payment.bitsby_id), payment.hash, payment.hash.upper()]

    for value in values:
        assert rows_of(viewer.get(list_url(model), {"q": value})) == 1, value
    for value in ("two words", "'", "%", EVIL, "9" * 300, str(bitsby.new_id()), NIL):
        response = viewer.get(list_url(model), {"q": value})
        assert response.status_code == 200
        assert rows_of(response) == 0, value
        assert EVIL not in response.content.decode()


def test_mails_can_be_searched_for_any_text(admin_client, order):
    """Any text in the search field of the e-mails shows a list."""
    for value in (order.number, "two words", NIL, "%"):
        assert admin_client.get(list_url("buyermail"), {"q": value}).status_code == 200


@pytest.mark.parametrize(
    ("model", "query", "count"),
    [
        ("bitsbyinvoice", "status__exact=paid", 2),
        ("bitsbyinvoice", "status__exact=unpaid", 0),
        ("bitsbyinvoice", "currency=USD", 2),
        ("bitsbyinvoice", "currency=EUR", 0),
        ("bitsbypayment", "review_reason__exact=short", 2),
        ("bitsbypayment", "is_foreign__exact=1", 0),
        ("bitsbyrefund", "state__exact=sent", 2),
        ("bitsbyrefund", "state__exact=requested", 0),
        ("bitsbyrefund", "requested_at__gte=2999-01-01T00:00:00%2B00:00", 0),
        ("webhookdelivery", "", 4),
        ("webhookdelivery", "answered=200", 2),
        ("webhookdelivery", "answered=503", 1),
        ("webhookdelivery", "answered=400", 0),
        ("webhookdelivery", "answered=none", 1),
    ],
)
def test_rows_can_be_filtered(records, viewer, model, query, count):
    """The filters offer fixed values and apply them."""
    for answered in (503, None):
        WebhookDelivery.objects.create(
            invoice=records["bitsbyinvoice"][0], body="{}", answered=answered
        )
    assert rows_of(viewer.get(f"{list_url(model)}?{query}")) == count


def test_admin_lists_need_a_constant_number_of_queries(
    records, place, invoice_for, viewer, staff_user, django_assert_max_num_queries
):
    """Twenty more rows cost no more queries."""
    order = place()
    for number in range(20):
        invoice = invoice_for(order, "expired", order_number=f"n{number}")
        (payment,) = create_payments(1, invoice=invoice, review_reason="short")
        request_refund(staff_user, payment, amount=None)
        WebhookDelivery.objects.create(invoice=invoice, body="{}", answered=503)
    for model in MODELS:
        with django_assert_max_num_queries(15):
            assert rows_of(viewer.get(list_url(model))) == 22


def test_markup_from_outside_is_escaped_in_the_admin(invoice, viewer):
    """Errors, names and hashes from outside do not become markup."""
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(
        uid=EVIL, failure=EVIL, unanswered_reason=EVIL, reply={"x": EVIL}, wallets=[{"name": EVIL}]
    )
    (payment,) = create_payments(1, invoice=invoice, **HOSTILE)

    for model, record in (("bitsbyinvoice", invoice), ("bitsbypayment", payment)):
        assert_escaped(viewer.get(list_url(model)))
        assert_escaped(viewer.get(f"{list_url(model)}{record.pk}/change/"))


def test_payment_of_a_deleted_order_is_found(fake, invoice, staff, viewer):
    """When an order is deleted, its number still finds the payment."""
    receive_payment(fake, invoice)
    order = invoice.order
    delete_order(order)

    assert staff.get(bind_url("admin", order)).status_code == 404
    found = viewer.get(list_url("bitsbypayment"), {"q": invoice.order_number})
    assert rows_of(found) == 1


def test_gateway_state_is_not_in_the_admin():
    """The state of the rate limit cannot be changed in the admin."""
    with pytest.raises(NoReverseMatch):
        list_url("gatewaystate")


def test_order_admin_is_unchanged_without_settings(invoice, staff, settings):
    """A shop that has not set ``OSCAR_BITSBY`` sees neither action nor button."""
    del settings.OSCAR_BITSBY

    assert b"Bind a Bitsby payment" not in staff.get(change_order_url(invoice.order)).content
    assert ACTION.encode() not in staff.get(reverse(LIST)).content


# What the pages show


def test_wallets_and_deliveries_are_tables_of_readable_values(invoice, viewer):
    """Coin, network, address and reserved amount; and what Bitsby sent, with all its digits."""
    wallet = {"cryptocurrency": "usdt", "blockchain": "tron", "address": "T" * 34, "amount": "8.10"}
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(wallets=[wallet, {}, "odd", EVIL])
    delivery = WebhookDelivery.objects.create(
        invoice=invoice, body='{"payment": {"amount": 8.50, "hash": "ab"}}', headers={"Host": "a"}
    )

    page = Page(viewer.get(f"{list_url('bitsbyinvoice')}{invoice.pk}/change/"))
    assert f"USDT Tron (TRC-20) {'T' * 34} 8.10" in page.rows()
    assert "style=" not in page.html.partition('id="content-main"')[2].partition("</form>")[0]
    page = Page(viewer.get(f"{list_url('webhookdelivery')}{delivery.pk}/change/"))
    assert {"payment.amount 8.50", "payment.hash ab", "Host a"} <= set(page.rows())


@pytest.mark.parametrize("body", ["[" * 30_000, "{" * 9, "[]", '{"a": 1e999}', "x" * 65_536])
def test_delivery_with_odd_content_can_be_read(invoice, viewer, body):
    """Content that is not JSON, or deeply nested, is shown as it is."""
    delivery = WebhookDelivery.objects.create(invoice=invoice, body=body)

    shown = viewer.get(f"{list_url('webhookdelivery')}{delivery.pk}/change/")

    assert shown.status_code == 200


def test_lists_show_the_order_number_and_money_first_and_ids_last(records, viewer):
    """A reader sees which order it is, and how much money, before anything technical."""
    invoice, payment = records["bitsbyinvoice"][0], records["bitsbypayment"][0]

    (row,) = [
        row for row in Page(viewer.get(list_url("bitsbypayment"))).rows() if payment.hash in row
    ]
    assert row.startswith(f"{invoice.order_number} $8.00 8 USDT refunded")
    assert row.endswith(str(payment.bitsby_id))


def test_audits_can_be_read_and_not_searched(admin_client):
    """The result, with the number of differences; a search in the URL is no error."""
    run = AuditRun.objects.create(state=AuditState.DIFFERENT, differences={"amount": 2, "hash": 1})

    listed = Page(admin_client.get(list_url("auditrun"), {"q": "anything"}))
    page = Page(admin_client.get(f"{list_url('auditrun')}{run.pk}/change/"))

    assert any("differences found 3" in row for row in listed.rows())
    assert {"amount 2", "hash 1"} <= set(page.rows())


@pytest.mark.parametrize("query", ["answered=abc", "is_foreign__exact=abc", "status__exact=abc"])
def test_made_up_filters_are_no_error(records, viewer, query):
    """A value that no filter offers shows no rows, or the whole list."""
    for model in ("webhookdelivery", "bitsbypayment", "bitsbyinvoice"):
        response = viewer.get(f"{list_url(model)}?{query}", follow=True)
        assert response.status_code == 200


def test_order_page_shows_total_received_and_missing(fake, invoice, staff):
    """The amounts of the Bitsby tab, and a link to it, stand on the order's page in the admin."""
    receive_payment(fake, invoice, "4.00000000")

    page = Page(staff.get(change_order_url(invoice.order)))

    rows = page.rows()
    assert {"Order total $10.00", "Received $4.00", "Missing $6.00"} <= set(rows)
    assert "Payments to review 1" in rows
    assert f"{order_url(invoice.order_number)}#bitsby" in page.links


def test_refund_is_not_offered_when_nothing_is_left_to_refund(fake, invoice, staff_user):
    """The order's page has no button that would end in an error."""
    cashier = log_in("refunder", "oscar_bitsby.refund_payment", "order.view_order", *EDIT)
    payment = receive_payment(fake, invoice)
    url = reverse("admin:oscar_bitsby_refund_request", args=[invoice.order.pk])
    assert url in Page(cashier.get(change_order_url(invoice.order))).links

    sent_refund(staff_user, payment, "8.00")

    assert url not in Page(cashier.get(change_order_url(invoice.order))).links
