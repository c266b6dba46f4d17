"""Fills the sandbox with goods and accounts; what is there already stays as it is."""

from decimal import Decimal
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sites.models import Site
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.core.loading import get_model

from shop import logins, pictures

Country = get_model("address", "Country")
Partner = get_model("partner", "Partner")
Product = get_model("catalogue", "Product")
ProductClass = get_model("catalogue", "ProductClass")
ProductImage = get_model("catalogue", "ProductImage")
StockRecord = get_model("partner", "StockRecord")
UserAddress = get_model("address", "UserAddress")


class Goods(NamedTuple):
    upc: str
    title: str
    category: str
    price: str
    picture: str
    description: str


GOODS = [
    Goods(
        "DG-MUG",
        "Stoneware mug",
        "Household",
        "14.00",
        "mug",
        "Holds 350 ml, keeps its heat and survives the dishwasher.",
    ),
    Goods(
        "DG-NOTEBOOK",
        "Dotted notebook",
        "Everyday",
        "5.50",
        "notebook",
        "160 numbered pages of heavy paper that lies flat when it is open.",
    ),
    Goods(
        "DG-SHIRT",
        "Sunset T-shirt",
        "Everyday",
        "24.90",
        "t_shirt",
        "Organic cotton, printed with water-based colours. Unisex, size M.",
    ),
    Goods(
        "DG-LAMP",
        "Desk lamp",
        "Household",
        "59.00",
        "lamp",
        "Warm light, two joints and a heavy foot, so that it stays where you want it.",
    ),
    Goods(
        "DG-HEADPHONES",
        "Wireless headphones",
        "Everyday",
        "119.00",
        "headphones",
        "Thirty hours on one charge, soft pads, and a cable for when it runs out.",
    ),
    Goods(
        "DG-PLANT",
        "Potted plant",
        "Household",
        "18.75",
        "plant",
        "Forgives a missed watering and likes a bright window. Pot included.",
    ),
]

COUNTRIES = [
    ("US", "USA", "840", "United States"),
    ("DE", "DEU", "276", "Germany"),
    ("ES", "ESP", "724", "Spain"),
]

STOCK = 10


class Command(BaseCommand):
    help = "Fill the sandbox with goods, countries and two accounts; a second run changes nothing."

    def handle(self, *args, **options):
        with transaction.atomic():
            self.name_the_site()
            self.add_countries()
            added = sum([self.add(goods) for goods in GOODS])
            self.add_accounts()
        # A product is indexed when it is saved, before it has its price and its category.
        call_command("rebuild_index", interactive=False, verbosity=0)
        self.stdout.write(
            f"{added} products added, {Product.objects.count()} in the shop.\n"
            f"Staff: {logins.ADMIN_EMAIL} / {logins.ADMIN_PASSWORD} "
            f"(user name {logins.ADMIN_USERNAME})\n"
            f"Buyer: {logins.BUYER_EMAIL} / {logins.BUYER_PASSWORD}"
        )

    def name_the_site(self):
        """Give the links in mails the address the shop is served at."""
        Site.objects.update_or_create(
            pk=settings.SITE_ID,
            defaults={
                "domain": f"127.0.0.1:{settings.SHOP_PORT}",
                "name": settings.OSCAR_SHOP_NAME,
            },
        )

    def add_countries(self):
        for order, (code, code3, number, name) in enumerate(reversed(COUNTRIES)):
            Country.objects.get_or_create(
                iso_3166_1_a2=code,
                defaults={
                    "iso_3166_1_a3": code3,
                    "iso_3166_1_numeric": number,
                    "printable_name": name,
                    "name": name.upper(),
                    "is_shipping_country": True,
                    "display_order": order,
                },
            )

    def add(self, goods):
        """Add one product with its picture, category and stock; return whether it was missing."""
        if Product.objects.filter(upc=goods.upc).exists():
            return False
        product_class, _ = ProductClass.objects.get_or_create(
            slug="goods",
            defaults={"name": "Goods", "requires_shipping": True, "track_stock": True},
        )
        partner, _ = Partner.objects.get_or_create(code="warehouse", defaults={"name": "Warehouse"})
        product = Product.objects.create(
            upc=goods.upc,
            title=goods.title,
            description=f"<p>{goods.description}</p>",
            product_class=product_class,
        )
        product.categories.add(create_from_breadcrumbs(goods.category))
        StockRecord.objects.create(
            product=product,
            partner=partner,
            partner_sku=goods.upc,
            price_currency=settings.OSCAR_DEFAULT_CURRENCY,
            price=Decimal(goods.price),
            num_in_stock=STOCK,
        )
        drawing = getattr(pictures, goods.picture)()
        ProductImage.objects.create(
            product=product, original=ContentFile(drawing, name=f"{goods.picture}.png")
        )
        return True

    def add_accounts(self):
        users = get_user_model().objects
        if not users.filter(username=logins.ADMIN_USERNAME).exists():
            users.create_superuser(logins.ADMIN_USERNAME, logins.ADMIN_EMAIL, logins.ADMIN_PASSWORD)
        if not users.filter(username=logins.BUYER_USERNAME).exists():
            buyer = users.create_user(
                logins.BUYER_USERNAME,
                logins.BUYER_EMAIL,
                logins.BUYER_PASSWORD,
                first_name="Demo",
                last_name="Buyer",
            )
            UserAddress.objects.create(
                user=buyer,
                first_name="Demo",
                last_name="Buyer",
                line1="1 Example Street",
                line4="Sampletown",
                state="CA",
                postcode="90001",
                country=Country.objects.get(iso_3166_1_a2="US"),
                is_default_for_shipping=True,
                is_default_for_billing=True,
            )
