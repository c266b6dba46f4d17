"""The steps of a buyer through Oscar's checkout, with Django's test client."""

from django.urls import reverse

ADDRESS = {
    "first_name": "Ada",
    "last_name": "Buyer",
    "line1": "1 Road",
    "line4": "Berlin",
    "postcode": "10115",
    "country": "DE",
}


def fill_basket(client, product, quantity=1):
    """Add a product to the basket."""
    return client.post(
        reverse("basket:add", kwargs={"pk": product.pk}), {"quantity": quantity, "action": "add"}
    )


def go_to_payment(client, product, quantity=1):
    """Go to the payment step, as a guest or as the user who is logged in."""
    fill_basket(client, product, quantity)
    if "_auth_user_id" not in client.session:
        client.post(
            reverse("checkout:index"), {"username": "buyer@example.com", "options": "anonymous"}
        )
    client.post(reverse("checkout:shipping-address"), ADDRESS)
    client.get(reverse("checkout:shipping-method"))


def go_to_preview(client, product, method="bitsby"):
    """Go to the preview, with a payment method chosen where the checkout asks for it."""
    go_to_payment(client, product)
    response = client.get(reverse("checkout:payment-method"))
    if response.status_code == 200:
        response = client.post(reverse("checkout:payment-method"), {"method": method})
    return response


def place_order(client):
    """Click "place order" on the preview."""
    return client.post(reverse("checkout:preview"), {"action": "place_order"})


def buy(client, product):
    """Place an order and follow redirects up to the one that leaves the shop."""
    go_to_preview(client, product)
    response = place_order(client)
    while response.status_code in (302, 303) and response["Location"].startswith("/"):
        response = client.get(response["Location"])
    return response
