"""The app in shops whose checkout or order app is forked, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest
from django.apps import apps
from oscar.core.customisation import fork_app

from oscar_bitsby.checkout import patching
from tests.paths import ROOT


def walk(fork, *methods, path=ROOT):
    """Return what ``tests.forks.walk`` saw in the shop with that fork."""
    environment = {
        **os.environ,
        "FORK": fork,
        "DJANGO_SETTINGS_MODULE": "tests.forks.settings",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([str(ROOT), str(path)])),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.forks.walk", *methods],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_mixins_are_in_front_of_the_views_of_a_fork():
    """Views that a fork overrides keep working: the app is first, then the fork, then Oscar."""
    found = walk("checkout=tests.forks.overriding.checkout.apps.CheckoutConfig", "bitsby", "cod")

    assert found["checks"] == []
    for url, mixin, view in (
        ("payment-method", "PaymentMethodMixin", "PaymentMethodView"),
        ("payment-details", "PaymentDetailsMixin", "PaymentDetailsView"),
        ("preview", "PaymentDetailsMixin", "PaymentDetailsView"),
    ):
        names = found["views"][url]
        ours = names.index(f"oscar_bitsby.checkout.mixins.{mixin}")
        # The class that the hook makes bears the fork's name, so its own comes after ours.
        forks = names.index(f"tests.forks.overriding.checkout.views.{view}", ours)
        assert ours < forks < names.index(f"oscar.apps.checkout.views.{view}")

    by_bitsby, by_other = found["walks"]["bitsby"], found["walks"]["cod"]
    assert by_bitsby["step"] == 200
    assert by_bitsby["chosen"] == "/checkout/preview/"
    assert "Cryptocurrency (Bitsby)" in by_bitsby["preview"]
    assert "The forked shop" in by_bitsby["preview"]
    assert by_bitsby["paying"].startswith("https://dash.bitsby.app/")
    assert by_bitsby["fork_handled"] == found["orders"][0]["number"]
    assert found["orders"][0]["sources"] == ["bitsby"]
    assert found["orders"][0]["invoices"] == ["unpaid"]
    # The shop's own method goes the way that the fork has given it.
    assert by_other["chosen"] == "/the-shops-own-payment/"
    assert by_other["placed"] == "/checkout/thank-you/"
    assert by_other["fork_handled"] == found["orders"][1]["number"]
    assert found["orders"][1]["sources"] == []


def test_fork_that_cannot_be_patched_gets_a_warning_with_the_mixins():
    """URLs that name the fork's views get a warning with the remedy, and the shop still sells."""
    found = walk("checkout=tests.forks.naming.checkout.apps.CheckoutConfig", "cod")

    assert [message["id"] for message in found["checks"]] == ["oscar_bitsby.W003"] * 2
    texts = " ".join(message["text"] for message in found["checks"])
    assert "oscar_bitsby.checkout.mixins.PaymentMethodMixin" in texts
    assert "oscar_bitsby.checkout.mixins.PaymentDetailsMixin" in texts
    assert "payment-method" in texts
    assert "preview" in texts
    assert found["walks"]["cod"]["placed"] == "/checkout/thank-you/"
    assert found["orders"][0]["sources"] == []


def test_forked_order_app_migrates_and_takes_orders(tmp_path, monkeypatch):
    """A fork with a field and migrations of its own migrates, and its orders are paid."""
    monkeypatch.chdir(tmp_path)
    fork_app("order", "forked_shop")
    fork = tmp_path / "forked_shop" / "order"
    # The newest migration of a fork has another name than Oscar's of this version.
    migrations = sorted((fork / "migrations").glob("0*.py"))
    migrations[-1].rename(fork / "migrations" / "0900_as_oscar.py")
    (fork / "migrations" / "0901_gift_message.py").write_text(
        "from django.db import migrations, models\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('order', '0900_as_oscar')]\n"
        "    operations = [migrations.AddField('order', 'gift_message',"
        " models.CharField(max_length=50, default='enjoy'))]\n"
    )
    (fork / "models.py").write_text(
        "from django.db import models\n"
        "from oscar.apps.order.abstract_models import AbstractOrder\n"
        "class Order(AbstractOrder):\n"
        "    gift_message = models.CharField(max_length=50, default='enjoy')\n"
        "from oscar.apps.order.models import *  # noqa\n"
    )

    found = walk("order=forked_shop.order.apps.OrderConfig", "bitsby", path=tmp_path)

    assert found["checks"] == []
    (order,) = found["orders"]
    assert order["class"] == "forked_shop.order.models.Order"
    assert order["gift_message"] == "enjoy"
    assert (order["status"], order["sources"]) == ("Pending", ["bitsby"])
    assert order["invoices"] == ["unpaid"]
    assert found["walks"]["bitsby"]["paying"].startswith("https://dash.bitsby.app/")


@pytest.mark.parametrize("missing", [None, "payment_method_view", "payment_details_view"])
def test_patching_twice_changes_nothing(monkeypatch, missing):
    """Views that have their mixin are left alone, and a fork without one of them still starts."""
    config = apps.get_app_config("checkout")
    if missing:
        monkeypatch.delattr(config, missing)
    before = dict(vars(config))

    patching.extend_checkout()

    assert vars(config) == before
