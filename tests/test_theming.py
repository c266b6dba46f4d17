"""A theme can replace each template and block, and ``docs/theming.rst`` names all of them."""

import re
from pathlib import Path

import pytest

import oscar_bitsby
from oscar_bitsby.choices import MailCode
from oscar_bitsby.mails import context
from oscar_bitsby.models import BuyerMail
from oscar_bitsby.orders import signed_urls
from oscar_bitsby.orders.payment_status import PaymentStatus
from oscar_bitsby.orders.refund_status import RefundStatus
from tests.support.buyer_refunds import create_refund

PAGE = (Path(__file__).parent.parent / "docs" / "theming.rst").read_text()
ROOT = Path(oscar_bitsby.__file__).parent / "templates"
MAIL = "oscar/communication/emails/commtype_bitsby_"

pytestmark = pytest.mark.django_db


def templates():
    """Return the texts of all templates by their names."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in ROOT.rglob("*")
        if path.is_file()
    }


def test_the_page_names_every_template_and_no_other():
    """The page names every template, and e-mails by the distinct part of their names."""
    names, mails = set(), set()
    for name in templates():
        if name.startswith(MAIL):
            mails.add(re.sub("_(subject|body)$", "", name.removeprefix(MAIL).split(".")[0]))
        else:
            names.add(name)
    named = set(re.findall(r"``((?:oscar_bitsby|admin)/[a-z_/]+\.(?:html|txt))``", PAGE))
    assert named == names
    assert mails == {code.removeprefix("BITSBY_").lower() for code, _ in MailCode.choices}
    for name in mails:
        assert f"``{name}``" in PAGE


def test_the_page_names_every_block():
    """The page names every block of ours, and no other."""
    blocks = set()
    for text in templates().values():
        blocks |= set(re.findall(r"{% block (bitsby_\w+) %}", text))
    # ``bitsby_extends`` is a context variable.
    assert set(re.findall(r"``(bitsby_\w+)``", PAGE)) - {"bitsby_extends"} == blocks


def test_the_page_names_every_context_variable(client, order, invoice):
    """The page names the context of the order's page and of the e-mails."""
    response = client.get(signed_urls.order_url(order))
    of_oscar = {name for part in client.get("/catalogue/").context for name in part.flatten()}
    given = {name for part in response.context for name in part.flatten()} - of_oscar
    of_status = [f"payment_status.{name}" for name in PaymentStatus.__dataclass_fields__]
    mail = BuyerMail(code=MailCode.PLACED, order=order)
    assert {"payment_status", "pay_url"} <= given
    for name in {*given, *of_status, *context.build_context(mail)} - {"user"}:
        assert f"``{name}``" in PAGE, name


def test_the_page_names_every_context_variable_of_refunds(client, order):
    """The page names the context of a refund's page and of its e-mails."""
    refund = create_refund(order)
    response = client.get(signed_urls.refund_url(refund))
    of_oscar = {name for part in client.get("/catalogue/").context for name in part.flatten()}
    given = {name for part in response.context for name in part.flatten()} - of_oscar
    of_status = {f"refund_status.{name}" for name in vars(RefundStatus) if not name.startswith("_")}
    mail = BuyerMail(code=MailCode.REFUND_REQUESTED, order=order, refund=refund)
    assert {"refund_status", "was_refused"} <= given
    for name in {*given, *of_status, "refund_status.refund", *context.build_context(mail)}:
        assert name == "user" or f"``{name}``" in PAGE, name


def test_the_page_names_every_attribute_of_the_script():
    """The page names every attribute that ``order.js`` uses."""
    script = (ROOT.parent / "static" / "oscar_bitsby" / "order.js").read_text()
    for name in set(re.findall(r"\[(data-bitsby-[a-z]+)\]", script)):
        assert f"``{name}``" in PAGE, name


@pytest.fixture
def themed_page(client, order, settings, tmp_path):
    """Return a function that shows the order's page in a theme with one template of its own."""

    def show(name, text):
        path = tmp_path / "oscar_bitsby" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
        return client.get(signed_urls.order_url(order)).content.decode()

    return show


def test_a_theme_changes_one_block_of_a_page(themed_page, order):
    """A template of the same path that extends ours changes only its block."""
    page = themed_page(
        "order.html",
        '{% extends "oscar_bitsby/order.html" %}'
        "{% block bitsby_order %}{{ block.super }}<p>Call {{ order.number }}</p>{% endblock %}",
    )

    assert f"<p>Call {order.number}</p>" in page
    assert "This order hasn't been paid yet" in page
    assert "What you ordered" in page


def test_a_theme_changes_one_text_of_every_page(themed_page):
    """A theme can replace one shared partial, which then changes wherever it is included."""
    page = themed_page("partials/state_title.html", "{{ payment_status.state }} it is")

    assert page.count("new it is") == 2
