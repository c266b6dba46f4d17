"""Add products and accounts to the sandbox; existing ones are not changed."""

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


class SampleProduct(NamedTuple):
    upc: str
    title: str
    category: str
    price: str
    picture: str
    description: str


PRODUCTS = [
    SampleProduct(
        "DG-MUG",
        "Stoneware mug",
        "Household",
        "14.00",
        "mug",
        "Holds 350 ml, keeps drinks hot and is safe for the dishwasher.",
    ),
    SampleProduct(
        "DG-NOTEBOOK",
        "Dotted notebook",
        "Everyday",
        "5.50",
        "notebook",
        "160 numbered pages of heavy paper. Lies flat when it is open.",
    ),
    SampleProduct(
        "DG-SHIRT",
        "Sunset T-shirt",
        "Everyday",
        "24.90",
        "t_shirt",
        "Organic cotton, printed with water-based colours. Unisex, size M.",
    ),
    SampleProduct(
        "DG-LAMP",
        "Desk lamp",
        "Household",
        "59.00",
        "lamp",
        "Warm light, two joints and a heavy base.",
    ),
    SampleProduct(
        "DG-HEADPHONES",
        "Wireless headphones",
        "Everyday",
        "119.00",
        "headphones",
        "Thirty hours on one charge, soft pads, and a cable.",
    ),
    SampleProduct(
        "DG-PLANT",
        "Potted plant",
        "Household",
        "18.75",
        "plant",
        "Needs little water and a bright window. Pot included.",
    ),
]

COUNTRIES = [
    ("US", "USA", "840", "United States"),
    ("DE", "DEU", "276", "Germany"),
    ("ES", "ESP", "724", "Spain"),
]

STOCK = 10


class Command(BaseCommand):
    help = "Add products, countries and two accounts to the sandbox. A second run changes nothing."

    def handle(self, *args, **options):
        with transaction.atomic():
            self.set_site()
            self.add_countries()
            added = sum([self.add_product(sample) for sample in PRODUCTS])
            self.add_accounts()
        # Saving a product indexes it before it has a price and a category.
        call_command("rebuild_index", interactive=False, verbosity=0)
        self.stdout.write(
            f"{added} products added, {Product.objects.count()} in the shop.\n"
            f"Staff: {logins.ADMIN_EMAIL} / {logins.ADMIN_PASSWORD} "
            f"(user name {logins.ADMIN_USERNAME})\n"
            f"Buyer: {logins.BUYER_EMAIL} / {logins.BUYER_PASSWORD}"
        )

    def set_site(self):
        """Set the domain of the site, which the links in e-mails use."""
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

    def add_product(self, sample):
        """Add a product with its picture, category and stock; return False if it exists."""
        if Product.objects.filter(upc=sample.upc).exists():
            return False
        product_class, _ = ProductClass.objects.get_or_create(
            slug="goods",
            defaults={"name": "Goods", "requires_shipping": True, "track_stock": True},
        )
        partner, _ = Partner.objects.get_or_create(code="warehouse", defaults={"name": "Warehouse"})
        product = Product.objects.create(
            upc=sample.upc,
            title=sample.title,
            description=f"<p>{sample.description}</p>",
            product_class=product_class,
        )
        product.categories.add(create_from_breadcrumbs(sample.category))
        StockRecord.objects.create(
            product=product,
            partner=partner,
            partner_sku=sample.upc,
            price_currency=settings.OSCAR_DEFAULT_CURRENCY,
            price=Decimal(sample.price),
            num_in_stock=STOCK,
        )
        drawing = getattr(pictures, sample.picture)()
        ProductImage.objects.create(
            product=product, original=ContentFile(drawing, name=f"{sample.picture}.png")
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
