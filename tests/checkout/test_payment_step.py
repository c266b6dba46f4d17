"""What the payment step offers, and how the choice goes on to the preview."""

import re

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.test import Client
from django.urls import reverse
from oscar.core.loading import get_model

from tests.support import bitsby
from tests.support.shopping import ADDRESS, fill_basket, go_to_payment, go_to_preview, place_order

Order = get_model("order", "Order")

pytestmark = pytest.mark.django_db


def radios(response):
    """Return the offered codes, in their order."""
    return re.findall(r'type="radio"[^>]*value="([^"]+)"', response.content.decode())


def checked(response):
    return re.findall(r'value="([^"]+)" checked', response.content.decode())


def assert_redirects_to(response, name):
    assert response.status_code == 302
    assert response["Location"] == reverse(name)


def step(client):
    return client.get(reverse("checkout:payment-method"))


def choose(client, code):
    return client.post(reverse("checkout:payment-method"), {"method": code})


def preview(client):
    return client.get(reverse("checkout:preview"))


def test_step_offers_bitsby_and_the_shops_methods(other_methods, payment_client):
    """The step shows radio buttons for Bitsby and the shop's methods, with none chosen."""
    page = step(payment_client)

    assert page.status_code == 200
    assert radios(page) == ["bitsby", "cod", "bill"]
    assert checked(page) == []
    assert "Cryptocurrency (Bitsby)" in page.content.decode()
    assert "Pay on delivery" in page.content.decode()


def test_chosen_method_is_kept(other_methods, payment_client):
    """The step shows an earlier choice again, which a later invalid choice does not change."""
    response = choose(payment_client, "bitsby")

    assert_redirects_to(response, "checkout:preview")
    assert checked(step(payment_client)) == ["bitsby"]
    choose(payment_client, "gold")
    assert preview(payment_client).status_code == 200


def test_step_cannot_be_skipped_when_there_is_a_choice(other_methods, payment_client):
    """Without a choice the buyer reaches neither the preview nor the order."""
    for response in (preview(payment_client), place_order(payment_client)):
        assert_redirects_to(response, "checkout:payment-method")
    assert "Please choose a payment method." in step(payment_client).content.decode()
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"method": "gold"}, "This payment method is not available for this order."),
        ({"method": ""}, "Please choose a payment method."),
        ({}, "Please choose a payment method."),
    ],
)
def test_invalid_choice_shows_an_error(other_methods, payment_client, data, text):
    """An invalid choice shows the step again with an error, and chooses nothing."""
    page = payment_client.post(reverse("checkout:payment-method"), data)

    assert page.status_code == 200
    assert text in page.content.decode()
    assert radios(page) == ["bitsby", "cod", "bill"]
    assert preview(payment_client)["Location"] == reverse("checkout:payment-method")


def test_only_method_bitsby_is_chosen_automatically(payment_client):
    """With nothing to choose from, the step and the payment details redirect to the preview."""
    assert_redirects_to(step(payment_client), "checkout:preview")
    assert "Cryptocurrency (Bitsby)" in preview(payment_client).content.decode()
    details = payment_client.get(reverse("checkout:payment-details"))
    assert_redirects_to(details, "checkout:preview")


def test_only_method_of_the_shop_is_chosen_automatically(configure, payment_client):
    """The shop's only method is chosen, and the shop's own step follows."""
    configure(OTHER_METHODS=[("cod", "Pay on delivery")], MIN_AMOUNT=1000)

    response = step(payment_client)

    assert_redirects_to(response, "checkout:payment-details")
    assert payment_client.get(reverse("checkout:payment-details")).status_code == 200
    assert preview(payment_client).status_code == 200


@pytest.fixture(params=["mysql", "USE_TZ = False"])
def unsupported_project(request, monkeypatch, settings):
    """A project in which the app cannot process payments."""
    if request.param == "mysql":
        monkeypatch.setattr(type(connections["default"]), "vendor", "mysql")
    else:
        settings.USE_TZ = False


def test_unsupported_project_is_not_offered_bitsby(
    other_methods, payment_client, unsupported_project, caplog
):
    """On other databases and without time zones only the shop's methods are offered."""
    assert radios(step(payment_client)) == ["cod", "bill"]
    assert "Bitsby is not offered" in caplog.text
    page = choose(payment_client, "bitsby")
    assert "This payment method is not available for this order." in page.content.decode()
    assert_redirects_to(choose(payment_client, "cod"), "checkout:payment-details")


def test_unsupported_project_takes_no_order_by_an_earlier_choice(
    other_methods, preview_client, unsupported_project
):
    """A choice that was made before does not place an order that nobody can settle."""
    assert_redirects_to(place_order(preview_client), "checkout:payment-method")
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("hours", "said"), [(0.5, "for 30 minutes."), (1, "for 1 hour."), (12, "for 12 hours.")]
)
def test_preview_says_how_long_the_quote_is_valid(configure, preview_client, hours, said):
    """Buyers know before they order how much time they have to pay."""
    configure(TIME_TO_PAY=hours)

    assert f"The quote is valid {said}" in preview(preview_client).content.decode()


def test_preview_of_a_shop_without_our_mails_promises_none(configure, preview_client):
    """Where the shop sends its own e-mails, buyers are not promised a link from us."""
    assert "or the link that we email you" in preview(preview_client).content.decode()
    configure(MAILS=False)

    assert "Back button." in preview(preview_client).content.decode()


def test_texts_of_a_shop_where_the_order_is_paid_on_its_own_page(
    configure, other_methods, preview_client
):
    """They do not speak of Bitsby's page, and say how long the quote is valid."""
    configure(PAYMENT_PAGE="shop")

    text = preview(preview_client).content.decode()

    assert "the next page shows the exact amount for $10.00 in each cryptocurrency" in text
    assert "The coin and the network must match" in text
    assert "The quote is valid for 1 hour." in text
    assert "Bitsby&#x27;s" not in text
    assert "Bitsby's" not in text
    assert "payment page" not in step(preview_client).content.decode()


def test_coins_of_the_newest_invoice_are_named(other_methods, preview_client, place, invoice_for):
    """The step and the preview name coins and networks; screen readers skip the icons."""
    assert "You can pay with" not in step(preview_client).content.decode()
    invoice_for(place())
    newest = bitsby.stored_wallets("10.00")
    newest.append(newest[0] | {"blockchain": "newChain", "address": "new-1"})
    invoice_for(place(), wallets=newest)
    invoice_for(place(), "expired", bitsby_id=None, wallets=[])

    for page in (step(preview_client), preview(preview_client)):
        text = " ".join(re.sub("<[^>]+>", " ", page.content.decode()).split())
        assert "You can pay with: ₮ USDT – Tron (TRC-20), newChain ₿ BTC – Bitcoin" in text
        assert '<span aria-hidden="true">₿</span>' in page.content.decode()


def test_preview_shows_the_chosen_method_and_the_next_step(other_methods, preview_client):
    """The preview names Bitsby, explains what happens next, and links to the step."""
    text = preview(preview_client).content.decode()

    assert "Cryptocurrency (Bitsby)" in text
    assert "After you place your order, you go to Bitsby" in text
    assert "Please send exactly that amount." in text
    assert "The coin and the network must match" in text
    assert "Wallets and exchanges deduct their fee from what you send: add it" in text
    assert "lead back to the shop: use your browser's Back button" in text
    assert "Payment details to go here" not in text
    assert f'href="{reverse("checkout:payment-method")}"' in text
    assert "id='place-order'" in text


@pytest.mark.parametrize(
    ("values", "is_offered"),
    [
        ({}, True),
        ({"CURRENCIES": ["USD"]}, True),
        ({"CURRENCIES": ["EUR", "RUB"]}, False),
        ({"MIN_AMOUNT": 10}, True),
        ({"MIN_AMOUNT": "10.01"}, False),
        ({"MAX_AMOUNT": 10.0}, True),
        ({"MAX_AMOUNT": 9.99}, False),
    ],
)
def test_bitsby_is_offered_when_currency_and_amount_fit(
    configure, other_methods, payment_client, values, is_offered
):
    """For a basket of 10 US dollars, Bitsby is offered exactly when the settings allow that."""
    configure(**values)

    assert radios(step(payment_client)) == [*(["bitsby"] if is_offered else []), "cod", "bill"]


def test_limits_apply_to_the_currency_of_the_basket(configure, other_methods, guest, product):
    """The limits of the basket's own currency decide."""
    product.stockrecords.update(price_currency="EUR")
    configure(MIN_AMOUNT={"USD": 1000}, MAX_AMOUNT={"EUR": 10})
    go_to_payment(guest, product)

    assert "bitsby" in radios(step(guest))

    product.stockrecords.update(price_currency="GBP")
    other = Client()
    go_to_payment(other, product)
    assert "bitsby" not in radios(step(other))


@pytest.mark.parametrize("is_chosen_before", [False, True])
def test_basket_without_a_method_stops_at_the_step(configure, payment_client, is_chosen_before):
    """A basket that no method fits gets a clear message and no order, whatever URL is opened."""
    if is_chosen_before:
        step(payment_client)
        assert preview(payment_client).status_code == 200
    configure(MAX_AMOUNT=5)

    page = step(payment_client)

    assert page.status_code == 200
    text = page.content.decode()
    assert "No payment method is available for an order of $10.00" in text
    assert "Your basket has been saved." in text
    assert radios(page) == []
    for response in (
        preview(payment_client),
        place_order(payment_client),
        payment_client.post(reverse("checkout:preview")),
    ):
        assert_redirects_to(response, "checkout:payment-method")
    details = payment_client.get(reverse("checkout:payment-details"), follow=True)
    assert details.redirect_chain[-1][0] == reverse("checkout:payment-method")
    again = choose(payment_client, "bitsby")
    assert again.status_code == 200
    assert "No payment method is available" in again.content.decode()
    assert not Order.objects.exists()
    assert payment_client.get(reverse("basket:summary")).context["basket"].num_items == 1


def test_choice_that_no_longer_fits_must_be_made_again(configure, other_methods, guest, product):
    """When the basket grows beyond the limit, Bitsby's choice is void and no order is placed."""
    configure(MAX_AMOUNT=15)
    go_to_preview(guest, product)
    fill_basket(guest, product)

    response = place_order(guest)

    assert_redirects_to(response, "checkout:payment-method")
    assert radios(step(guest)) == ["cod", "bill"]
    assert not Order.objects.exists()


def use(client, voucher):
    client.post(reverse("basket:vouchers-add"), {"code": voucher.code})


def assert_placed_without_payment(response):
    """Assert that Oscar placed an order of zero, without a source."""
    assert response["Location"] == reverse("checkout:thank-you")
    order = Order.objects.get()
    assert order.total_incl_tax == 0
    assert not order.sources.exists()


def test_free_order_skips_the_step(payment_client, voucher):
    """An order of zero needs no payment, and Oscar places it without a source."""
    use(payment_client, voucher)

    assert_redirects_to(step(payment_client), "checkout:preview")
    assert "Bitsby" not in preview(payment_client).content.decode()
    assert_placed_without_payment(place_order(payment_client))


def test_order_that_becomes_free_after_the_choice_is_placed_without_bitsby(
    fake, preview_client, voucher
):
    """A voucher that makes the order free after Bitsby was chosen: Oscar places it."""
    use(preview_client, voucher)

    assert "Bitsby" not in preview(preview_client).content.decode()
    assert_placed_without_payment(place_order(preview_client))
    assert preview_client.get(reverse("checkout:thank-you")).status_code == 200
    assert fake.requests == []


def test_order_that_is_no_longer_free_needs_a_method(other_methods, payment_client, voucher):
    """After the voucher was removed, the order is not placed before a method is chosen."""
    use(payment_client, voucher)
    assert preview(payment_client).status_code == 200
    payment_client.post(reverse("basket:vouchers-remove", kwargs={"pk": voucher.pk}))

    response = place_order(payment_client)

    assert response["Location"] == reverse("checkout:payment-method")
    assert not Order.objects.exists()


def test_orders_of_other_methods_take_oscars_way(other_methods, fake, payment_client):
    """An order of the shop's own method reaches Oscar's thank-you page, with no source."""
    response = choose(payment_client, "cod")
    assert response["Location"] == reverse("checkout:payment-details")
    text = preview(payment_client).content.decode()
    assert "Payment details to go here" in text
    assert "Bitsby" not in text
    placed = place_order(payment_client)

    assert_redirects_to(placed, "checkout:thank-you")
    order = Order.objects.get()
    assert order.basket.status == "Submitted"
    assert not order.sources.exists()
    assert not order.bitsby_invoices.exists()
    assert payment_client.get(reverse("checkout:thank-you")).status_code == 200
    assert fake.requests == []


@pytest.mark.parametrize(
    "values",
    [
        {"API_KEY": ""},
        {"PROJECT_ID": None},
        {"TIMEOUT": "soon"},
        {"MIN_AMOUNT": "a lot"},
        {"MAX_AMOUNT": {"USD": "a lot"}},
        {"MIN_AMOUNT": "NaN"},
        {"CURRENCIES": "USD"},
        {"PAYMENT_HOSTS": None},
        {"CANCEL_AFTER": 3600},
    ],
    ids=str,
)
def test_unusable_settings_offer_no_bitsby(configure, other_methods, payment_client, values):
    """With wrong settings the shop sells on by its other methods, and no page fails."""
    configure(**values)

    assert radios(step(payment_client)) == ["cod", "bill"]
    assert choose(payment_client, "bitsby").status_code == 200
    choose(payment_client, "cod")
    assert preview(payment_client).status_code == 200
    assert place_order(payment_client)["Location"] == reverse("checkout:thank-you")


def test_settings_that_become_unusable_after_the_choice_place_no_order(configure, preview_client):
    """Bitsby's choice is void when its settings are unusable: goods are never given away."""
    configure(TIMEOUT="soon")

    for response in (preview(preview_client), place_order(preview_client)):
        assert response["Location"] == reverse("checkout:payment-method")
    assert "No payment method is available" in step(preview_client).content.decode()
    assert not Order.objects.exists()


@pytest.mark.parametrize("others", [7, [("cod",)], ["cod"], None], ids=repr)
def test_invalid_other_methods_place_no_order(configure, payment_client, others):
    """``OTHER_METHODS`` of the wrong shape stops the buyer with a message, not with an error."""
    configure(OTHER_METHODS=others)

    assert "No payment method is available" in step(payment_client).content.decode()
    assert place_order(payment_client)["Location"] == reverse("checkout:payment-method")
    assert not Order.objects.exists()


def walk(product):
    """Request every step of the checkout, also in a wrong order; return the responses."""
    client = Client()
    fill_basket(client, product)
    email = {"username": "buyer@example.com", "options": "anonymous"}
    # A step is requested by GET, or by POST if it has fields.
    requests = [
        ("preview", None),
        ("payment-method", None),
        ("index", None),
        ("index", email),
        ("shipping-address", None),
        ("shipping-address", ADDRESS),
        ("shipping-method", None),
        ("payment-method", {"method": "bitsby"}),
        ("payment-method", None),
        ("payment-details", None),
        ("payment-details", {}),
        ("preview", None),
        ("preview", {}),
        ("preview", {"action": "place_order"}),
        ("thank-you", None),
        ("preview", None),
        ("preview", {"action": "place_order"}),
    ]
    pages = []
    for name, fields in requests:
        url = reverse(f"checkout:{name}")
        response = client.get(url) if fields is None else client.post(url, fields)
        templates = [template.name for template in response.templates]
        page = comparable(response.content.decode())
        pages.append((response.status_code, response.get("Location"), templates, page))
    return pages


def comparable(page):
    """Remove what differs between two walks through the same shop."""
    page = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page)
    page = re.sub(r"\(\d+ available\)", "", page)
    # The minute may have changed between them.
    page = re.sub(r'<meta name="created" content="[^"]+"', "", page)
    return re.sub(r"\b10\d{4}\b(:[\w-]+)?", "ORDER", page)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "not a dict",
        {"API_KEY": "key", "PROJECT_ID": "project", "EXTEND_CHECKOUT": False},
    ],
    ids=["not set", "empty", "nonsense", "EXTEND_CHECKOUT=False"],
)
def test_checkout_that_is_not_extended_does_not_change(settings, country, product, value):
    """Without ``OSCAR_BITSBY``, or with ``EXTEND_CHECKOUT`` False, every response is Oscar's."""
    if value is None:
        del settings.OSCAR_BITSBY
    else:
        settings.OSCAR_BITSBY = value
    ours = walk(product)
    settings.ROOT_URLCONF = "tests.checkout.stock_urls"
    stock = walk(product)

    assert ours == stock
    assert Order.objects.count() == 2
    # The walk reached the thank-you page, so not only refusals were compared.
    assert stock[13][:2] == (302, reverse("checkout:thank-you"))


def test_comparison_notices_an_extended_checkout(settings, country, product):
    """The comparison above would notice an extended checkout."""
    ours = walk(product)
    settings.ROOT_URLCONF = "tests.checkout.stock_urls"

    assert ours != walk(product)


def test_shop_can_use_the_mixins_in_its_own_views(
    settings, configure, other_methods, fake, guest, product
):
    """With ``EXTEND_CHECKOUT`` False and the mixins in the shop's views, Bitsby works the same."""
    configure(EXTEND_CHECKOUT=False)
    settings.ROOT_URLCONF = "tests.checkout.mixed_urls"
    go_to_payment(guest, product)

    assert radios(step(guest)) == ["bitsby", "cod", "bill"]
    choose(guest, "bitsby")
    response = place_order(guest)

    order = Order.objects.get()
    assert order.sources.get().source_type.code == "bitsby"
    assert guest.get(response["Location"])["Location"].startswith("https://dash.bitsby.app/")
    assert "oscar_bitsby.W003" not in [message.id for message in run_checks()]
