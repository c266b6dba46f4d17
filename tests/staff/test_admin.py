"""Bind from the order admin, and read our rows in the admin."""

import re

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.sites import site
from django.urls import NoReverseMatch, reverse
from django.utils.html import escape
from oscar.apps.order.admin import OrderAdmin
from oscar.core.loading import get_model

from oscar_bitsby.models import BitsbyInvoice, BitsbyPayment, WebhookDelivery
from oscar_bitsby.staff.order_admin import OrderAdminMixin, extend_order_admin
from tests.support import bitsby
from tests.support.staff import MAY_BIND, Page, bind_url, log_in, message_after, receive_payment

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db

LIST = "admin:order_order_changelist"
ACTION = "bind_bitsby_payment"
EDIT = ("order.add_order", "order.change_order", "order.delete_order")
LOOK = (
    "oscar_bitsby.view_bitsbyinvoice",
    "oscar_bitsby.view_bitsbypayment",
    "oscar_bitsby.view_webhookdelivery",
)


def select(client, *orders):
    """Run the action on those orders."""
    picked = [order.pk for order in orders]
    fields = {"action": ACTION, "index": "0", "_selected_action": picked}
    return client.post(reverse(LIST), fields)


# The action and the button


def test_the_action_leads_to_the_binding_of_the_selected_order(invoice, staff):
    """One order selected: its binding page opens."""
    assert f'value="{ACTION}"' in staff.get(reverse(LIST)).content.decode()

    response = select(staff, invoice.order)

    assert response.status_code == 302
    assert response["Location"] == bind_url("admin", invoice.order)


def test_several_orders_cannot_be_bound_to(place, invoice_for, staff):
    """Two or three orders selected: a clear message, and the list again."""
    orders = [place(), place(), place()]
    for order in orders:
        invoice_for(order)
    for chosen in (orders[:2], orders):
        assert "Select exactly one order" in message_after(staff, select(staff, *chosen))


def test_action_without_an_order_shows_a_message(order, staff):
    """None selected: a clear message, and the list again."""
    assert "Items must be selected" in message_after(staff, select(staff))


def test_action_on_all_orders_binds_to_none(place, invoice_for, staff):
    """ "Select all" over more orders than one does not bind to any of them."""
    orders = [place(), place()]
    for order in orders:
        invoice_for(order)
    picked = {"action": ACTION, "_selected_action": [orders[0].pk], "select_across": "1"}
    assert "Select exactly one order" in message_after(staff, staff.post(reverse(LIST), picked))


def test_action_on_an_order_without_an_open_invoice_shows_a_message(place, invoice_for, staff):
    """The message names the order and why nothing can be bound to it."""
    bare, paid = place(), place()
    invoice_for(paid, "paid")

    for order, text in ((bare, "has no Bitsby invoice"), (paid, "is already paid")):
        response = select(staff, order)
        assert response["Location"].startswith(reverse(LIST))
        assert f"Order {order.number} {text}" in message_after(staff, response)


def test_an_order_with_a_paid_and_an_open_invoice_can_be_bound_to(order, invoice_for, staff):
    """One paid invoice does not close the others: a second payment may belong to them."""
    invoice_for(order, "paid")
    invoice_for(order, "expired")

    assert select(staff, order)["Location"] == bind_url("admin", order)


def test_the_order_page_has_a_button_that_opens_the_binding(fake, invoice, staff):
    """The change page links to the binding page, and that one back to the order."""
    change = reverse("admin:order_order_change", args=[invoice.order.pk])

    page = Page(staff.get(change))
    url = bind_url("admin", invoice.order)
    assert url in page.links
    assert "Bind a Bitsby payment" in page.text

    binding = Page(staff.get(url))
    assert f"Bind a Bitsby payment to order {invoice.order_number}" in binding.text
    assert change in binding.links
    assert reverse(LIST) in binding.links


def test_without_the_permission_there_is_neither_action_nor_button(invoice):
    """Staff who may edit orders but not bind see nothing of it; a forged action does nothing."""
    editor = log_in("editor", "order.view_order", *EDIT)

    assert ACTION not in editor.get(reverse(LIST)).content.decode()
    change = editor.get(reverse("admin:order_order_change", args=[invoice.order.pk]))
    assert bind_url("admin", invoice.order) not in Page(change).links
    assert "Bind a Bitsby payment" not in Page(change).text
    forged = select(editor, invoice.order)
    assert bind_url("admin", invoice.order) != forged.headers.get("Location")


@pytest.mark.parametrize("key", ["0", "999999", "abc", "1/2", "%C2%B2", "-1", "1.5"])
def test_binding_page_of_a_missing_order_is_not_found(invoice, staff, key):
    """The page of a missing order is a 404, whatever the URL holds."""
    response = staff.get(f"/admin/order/order/{key}/bitsby/")

    assert response.status_code == 404


def test_orders_can_still_be_added_and_changed_in_the_admin(invoice):
    """The shop's own forms of an order work as before, to add one and to change one."""
    editor = log_in("editor", "order.view_order", *EDIT)

    assert editor.get(reverse("admin:order_order_add")).status_code == 200
    change = reverse("admin:order_order_change", args=[invoice.order.pk])
    page = editor.get(change)
    assert page.status_code == 200
    assert "guest_email" in page.content.decode()
    for name in ("delete", "history"):
        url = reverse(f"admin:order_order_{name}", args=[invoice.order.pk])
        assert editor.get(url).status_code == 200


def shop_template(settings, folder, name):
    """The shop has a template of that name for its orders."""
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text(
        '{% extends "admin/change_form.html" %}'
        "{% block object-tools-items %}<li>Print the label</li>{{ block.super }}{% endblock %}"
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(folder)]}]


def test_a_shops_own_template_of_the_order_page_is_kept(invoice, staff, settings, tmp_path):
    """A shop with its own ``admin/order/order/change_form.html`` sees that with our button."""
    shop_template(settings, tmp_path, "admin/order/order/change_form.html")

    page = Page(staff.get(reverse("admin:order_order_change", args=[invoice.order.pk])))

    assert "Bind a Bitsby payment" in page.text
    assert "Print the label" in page.text


# However the shop registers its orders


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
    assert [parent for parent in type(before).__mro__ if parent is OrderAdminMixin] == [
        OrderAdminMixin
    ]


def test_a_shop_without_an_order_admin_is_left_alone(registry):
    """Where orders are not in the admin, they do not get there by our doing."""
    registry.unregister(Order)

    extend_order_admin()

    assert Order not in registry._registry


def test_a_shops_own_order_admin_keeps_its_features(
    registry, rf, staff, invoice, settings, tmp_path
):
    """An admin of the shop's, with its own actions, addresses and template, gets ours in front."""

    @admin.action(description="Ship")
    def ship(modeladmin, request, queryset):
        """Do nothing."""

    class ShopAdmin(admin.ModelAdmin):
        list_display = ("number",)
        actions = (ship,)
        change_form_template = "shop/order.html"

    shop_template(settings, tmp_path, "shop/order.html")
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
def records(fake, place, invoice_for):
    """Two invoices with a payment and a delivery each."""
    found = []
    for _ in range(2):
        invoice = invoice_for(place())
        payment = receive_payment(fake, invoice)
        delivery = WebhookDelivery.objects.create(
            invoice=invoice,
            body='{"a": "<script>alert(1)</script>"}',
            answered=200,
            outcome="<script>alert(1)</script>",
            headers={"X": "<script>alert(1)</script>"},
        )
        found.append((invoice, payment, delivery))
    return found


def rows_of(response):
    return len(re.findall(r'<th class="field-', response.content.decode()))


@pytest.mark.parametrize("model", ["bitsbyinvoice", "bitsbypayment", "webhookdelivery"])
def test_rows_can_be_read_and_not_changed(records, model):
    """List and page open for reading; adding, changing and deleting are refused to everybody."""
    index = ["bitsbyinvoice", "bitsbypayment", "webhookdelivery"].index(model)
    record = records[0][index]
    allowed = [f"oscar_bitsby.{verb}_{model}" for verb in ("view", "add", "change", "delete")]
    staff = log_in("boss", *allowed)
    name = f"admin:oscar_bitsby_{model}"

    listed = staff.get(reverse(f"{name}_changelist"))
    shown = staff.get(reverse(f"{name}_change", args=[record.pk]))

    assert listed.status_code == shown.status_code == 200
    assert rows_of(listed) == 2
    for response in (listed, shown):
        html = response.content.decode()
        assert "<script>alert(1)" not in html
        assert 'name="_save"' not in html
        assert reverse(f"{name}_add") not in html
        assert "delete_selected" not in html
    assert staff.get(reverse(f"{name}_add")).status_code == 403
    change, delete = (reverse(f"{name}_{verb}", args=[record.pk]) for verb in ("change", "delete"))
    for url in (reverse(f"{name}_add"), change, delete):
        assert staff.post(url, {"post": "yes", "status": "paid"}).status_code == 403
    staff.post(
        reverse(f"{name}_changelist"),
        {"action": "delete_selected", "_selected_action": [record.pk], "post": "yes"},
    )
    assert type(record).objects.filter(pk=record.pk).exists()


@pytest.mark.parametrize("model", ["bitsbyinvoice", "bitsbypayment", "webhookdelivery"])
def test_rows_need_the_view_permission(records, model):
    """Staff without the view permission are refused the list and the page."""
    staff = log_in("other", *MAY_BIND)
    url = reverse(f"admin:oscar_bitsby_{model}_changelist")
    assert staff.get(url).status_code == 403
    assert staff.get(f"{url}{records[0][0].pk}/change/").status_code == 403


def test_rows_are_found_by_number_uid_id_and_hash(records):
    """The whole value finds its row and no other; rubbish finds none and breaks nothing."""
    staff = log_in("viewer", *LOOK)
    invoice, payment, _ = records[0]
    wanted = {
        "bitsbyinvoice": [invoice.order_number, invoice.uid, str(invoice.bitsby_id)],
        "bitsbypayment": [invoice.order_number, invoice.uid, str(payment.bitsby_id), payment.hash],
        "webhookdelivery": [invoice.order_number, invoice.uid, str(invoice.bitsby_id)],
    }
    for model, values in wanted.items():
        url = reverse(f"admin:oscar_bitsby_{model}_changelist")
        for value in values:
            assert rows_of(staff.get(url, {"q": value})) == 1, (model, value)
        for value in ("rubbish", "'", str(bitsby.new_id()), "<script>alert(1)</script>", "9" * 300):
            response = staff.get(url, {"q": value})
            assert response.status_code == 200
            assert rows_of(response) == 0, (model, value)
            assert "<script>alert(1)" not in response.content.decode()


def test_rows_can_be_filtered(records):
    """The filters of the lists work."""
    staff = log_in("viewer", *LOOK)
    for model, query, count in (
        ("bitsbyinvoice", "status__exact=paid", 2),
        ("bitsbyinvoice", "status__exact=unpaid", 0),
        ("bitsbypayment", "review_reason__exact=short", 2),
        ("bitsbypayment", "is_foreign__exact=1", 0),
        ("webhookdelivery", "answered=200", 2),
        ("webhookdelivery", "answered=400", 0),
    ):
        url = reverse(f"admin:oscar_bitsby_{model}_changelist")
        assert rows_of(staff.get(f"{url}?{query}")) == count, (model, query)


def test_admin_lists_need_a_constant_number_of_queries(
    records, place, invoice_for, django_assert_max_num_queries
):
    """Twenty more rows cost no more queries."""
    staff = log_in("viewer", *LOOK)
    order = place()
    for number in range(20):
        invoice = invoice_for(order, "expired", order_number=f"n{number}")
        BitsbyPayment.objects.create(
            bitsby_id=bitsby.new_id(), amount=1, invoice=invoice, review_reason="short"
        )
        WebhookDelivery.objects.create(invoice=invoice, body="{}", answered=503)
    for model in ("bitsbyinvoice", "bitsbypayment", "webhookdelivery"):
        with django_assert_max_num_queries(15):
            url = reverse(f"admin:oscar_bitsby_{model}_changelist")
            assert rows_of(staff.get(url)) == 22


def test_markup_from_outside_is_escaped_in_the_admin(fake, invoice, staff):
    """Errors, names and hashes from outside do not become markup."""
    evil = "<script>alert(1)</script>"
    BitsbyInvoice.objects.filter(pk=invoice.pk).update(
        uid=evil, failure=evil, reply={"x": evil}, wallets=[{"name": evil}]
    )
    payment = BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(),
        amount=1,
        invoice=invoice,
        hash=evil,
        cryptocurrency=evil,
        blockchain=evil,
        address=evil,
        resolution_note=evil,
    )
    staff = log_in("viewer", *LOOK)
    for model, record in (("bitsbyinvoice", invoice), ("bitsbypayment", payment)):
        for url in (
            reverse(f"admin:oscar_bitsby_{model}_changelist"),
            reverse(f"admin:oscar_bitsby_{model}_change", args=[record.pk]),
        ):
            html = staff.get(url).content.decode()
            assert evil not in html
            assert escape(evil)[:12] in html


def test_deleting_an_order_keeps_its_payments(fake, invoice):
    """Deleting an order in the admin deletes no payment."""
    payment = receive_payment(fake, invoice)
    editor = log_in("editor", "order.view_order", *EDIT, *MAY_BIND[:1])
    order = invoice.order
    order.sources.all().delete()
    Order.objects.filter(pk=order.pk).delete()

    invoice.refresh_from_db()
    payment.refresh_from_db()
    assert (invoice.order, payment.invoice) == (None, invoice)
    assert editor.get(f"/admin/order/order/{order.pk}/bitsby/").status_code == 404
    viewer = log_in("viewer", *LOOK)
    url = reverse("admin:oscar_bitsby_bitsbypayment_changelist")
    assert rows_of(viewer.get(url, {"q": invoice.order_number})) == 1


def test_the_shared_state_is_not_in_the_admin():
    """The state of the rate limit cannot be changed in the admin."""
    with pytest.raises(NoReverseMatch):
        reverse("admin:oscar_bitsby_gatewaystate_changelist")


def test_order_admin_is_unchanged_without_settings(invoice, staff, settings):
    """A shop that has not set ``OSCAR_BITSBY`` sees neither action nor button."""
    del settings.OSCAR_BITSBY

    change = staff.get(reverse("admin:order_order_change", args=[invoice.order.pk]))
    listed = staff.get(reverse("admin:order_order_changelist"))

    assert b"Bind a Bitsby payment" not in change.content
    assert b"bind_bitsby_payment" not in listed.content


@pytest.mark.parametrize("model", apps.get_app_config("oscar_bitsby").get_models())
def test_any_text_can_be_searched_for(admin_client, invoice, model):
    """Whatever staff write into the field of a list of ours, they are shown a list."""
    if model not in site._registry:
        pytest.skip("not shown in the admin")
    address = reverse(f"admin:oscar_bitsby_{model._meta.model_name}_changelist")
    for words in (invoice.order_number, "two words", "00000000-0000-0000-0000-000000000000", "%"):
        assert admin_client.get(address, {"q": words}).status_code == 200


def test_a_search_finds_whole_values_of_every_kind(admin_client, invoice):
    """Order number, short id, Bitsby's id and transaction hash find the rows."""
    payment = BitsbyPayment.objects.create(
        bitsby_id=bitsby.new_id(), invoice=invoice, amount=1, hash="ab12", review_reason=""
    )
    words = (invoice.order_number, invoice.uid, str(invoice.bitsby_id))
    for name, more in (
        ("bitsbyinvoice", (str(payment.bitsby_id), "AB12")),
        ("bitsbypayment", (str(payment.bitsby_id), "AB12")),
        ("webhookdelivery", ()),
    ):
        if name == "webhookdelivery":
            WebhookDelivery.objects.create(invoice=invoice, body="{}")
        address = reverse(f"admin:oscar_bitsby_{name}_changelist")
        found = {
            word: admin_client.get(address, {"q": word}).context["cl"].result_count
            for word in (*words, *more, "nowhere")
        }
        assert found == {**dict.fromkeys((*words, *more), 1), "nowhere": 0}


def test_filters_by_currency_and_answer_offer_fixed_values(admin_client, invoice):
    """The filters offer fixed values and apply them."""
    WebhookDelivery.objects.create(invoice=invoice, body="{}", answered=503)
    WebhookDelivery.objects.create(invoice=invoice, body="{}")

    def count(name, **query):
        address = reverse(f"admin:oscar_bitsby_{name}_changelist")
        return admin_client.get(address, query).context["cl"].result_count

    assert [count("bitsbyinvoice", currency=code) for code in ("USD", "EUR")] == [1, 0]
    answers = [count("webhookdelivery", answered=value) for value in ("200", "503", "none")]
    assert answers == [0, 1, 1]
    assert count("webhookdelivery") == 2
