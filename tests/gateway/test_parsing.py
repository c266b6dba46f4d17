"""Parsing: documented bodies become dataclasses, and other shapes are errors."""

import datetime as dt
import uuid
from dataclasses import FrozenInstanceError
from decimal import Decimal

import pytest

from oscar_bitsby.gateway import parsing, schemas

UTC = dt.timezone.utc


@pytest.fixture
def canceled(payload):
    return payload("invoices_list")["data"][0]


@pytest.fixture
def paid(payload):
    return payload("invoices_list")["data"][1]


@pytest.fixture
def transfer(payload):
    return payload("payments_list")["data"][0]


@pytest.fixture
def creation(payload):
    return payload("invoices_create")["data"]


def test_the_documented_invoice_is_read(canceled):
    """An unpaid item of ``invoices/list`` is read field by field and has no payment."""
    assert parsing.parse_invoice(canceled) == schemas.Invoice(
        id=uuid.UUID("59302b02-d1be-4e10-960f-d6ec24bfcaaf"),
        status=schemas.CANCELED,
        uid="F7nYgvxM1N92",
        project_id="9deea1e2-0c08-41a3-bdc2-a34eada3892d",
        amount=Decimal("100.00"),
        currency="USD",
        created_at=dt.datetime(2024, 2, 29, 10, 49, 56, tzinfo=UTC),
        expires_at=dt.datetime(2024, 3, 1, 10, 49, 56, tzinfo=UTC),
        service_data="",
        views=0,
        payment=None,
        commission_usd=Decimal("1.00"),
    )


def test_the_documented_paid_invoice_has_its_payment_and_wallet(paid):
    """A paid item carries the payment, and in it the wallet where it came in."""
    invoice = parsing.parse_invoice(paid)
    assert (invoice.status, invoice.service_data) == (schemas.PAID, "userId:2444")
    assert invoice.payment == schemas.Payment(
        id=uuid.UUID("f986ad8d-2298-473d-982a-efbc817b975d"),
        amount=Decimal("12.00000000"),
        hash="f09352627039c088688806821b864895ff237558612d834861621fc026de5f68",
        transaction_at=dt.datetime(2024, 2, 27, 21, 5, 36, tzinfo=UTC),
        wallet=schemas.Wallet(
            id="47aa71e2-07a0-482e-9172-7114d7376ba0",
            name="usdt-tron",
            blockchain="tron",
            cryptocurrency="usdt",
            address="TKbstUwMzLrfTAGL4erYb7gc7ghmHQ9zG7",
        ),
    )


def test_the_documented_payment_has_its_invoice(transfer, paid):
    """An item of ``payments/list`` carries its invoice, which itself has no payment."""
    payment = parsing.parse_payment(transfer)
    assert payment.amount == Decimal(12)
    assert payment.wallet.cryptocurrency == "usdt"
    assert payment.invoice.id == uuid.UUID(paid["id"])
    assert payment.invoice.payment is None


def test_the_documented_creation_is_read(creation):
    """The answer of ``invoices/create`` has the page, the times and each wallet's reserved sum."""
    created = parsing.parse_created(creation)
    assert created.id == uuid.UUID("ade9550d-3dc7-4fd3-b94e-3b4c12aaaa0c")
    assert (created.uid, created.url) == (
        "MXNj4m8HhcM4",
        "https://dash.bitsby.app/invoices/pay/MXNj4m8HhcM4",
    )
    assert created.expires_at - created.created_at == dt.timedelta(hours=12)
    assert [(wallet.cryptocurrency, wallet.amount) for wallet in created.wallets] == [
        ("usdt", Decimal("11.45")),
        ("usdt", Decimal("11.45")),
        ("usdt", Decimal("11.45")),
        ("eth", Decimal("0.00329601")),
        ("btc", Decimal("0.00018186")),
    ]
    assert created.raw == creation


def test_schemas_are_frozen(canceled):
    """Parsed answers cannot be changed."""
    with pytest.raises(FrozenInstanceError):
        parsing.parse_invoice(canceled).status = "paid"


def test_unknown_fields_are_ignored(canceled, transfer, creation):
    """A new field of the API changes nothing."""
    more = {"surprise": {"deep": [1, None]}}
    assert parsing.parse_invoice(canceled | more) == parsing.parse_invoice(canceled)
    assert parsing.parse_payment(transfer | more) == parsing.parse_payment(transfer)
    assert parsing.parse_created(creation | more).wallets == parsing.parse_created(creation).wallets


@pytest.mark.parametrize(
    "name",
    [
        *("uid", "projectId", "createDatetime", "timeToPayDatetime", "commissionFiatUSD"),
        *("amountFiatUSD", "currencyFiat", "description", "serviceData", "views", "status"),
    ],
)
@pytest.mark.parametrize("null", [True, False])
def test_optional_fields_of_an_invoice_may_be_missing(canceled, name, null):
    """Every field but id and amount may be missing or null."""
    if null:
        canceled[name] = None
    else:
        del canceled[name]
    invoice = parsing.parse_invoice(canceled)
    assert (invoice.amount, invoice.payment) == (Decimal(100), None)


@pytest.mark.parametrize("value", [None, "", "x", [], {}, True, -1])
def test_invoices_and_payments_need_their_id_and_amount(canceled, transfer, value):
    """An item without a readable id or amount is a ``ValueError``."""
    for parse, item, name in (
        (parsing.parse_invoice, canceled, "id"),
        (parsing.parse_invoice, canceled, "amountFiat"),
        (parsing.parse_payment, transfer, "id"),
        (parsing.parse_payment, transfer, "amount"),
    ):
        with pytest.raises(ValueError, match=r"."):
            parse(item | {name: value})


@pytest.mark.parametrize("empty", [None, {}, [], ""])
def test_missing_null_and_empty_invoices_mean_unbound(transfer, empty):
    """A payment with a missing, null or empty invoice is not bound to an invoice."""
    assert parsing.parse_payment(transfer | {"invoice": empty}).invoice is None
    del transfer["invoice"]
    assert parsing.parse_payment(transfer).invoice is None


@pytest.mark.parametrize("empty", [None, {}, [], ""])
def test_null_and_empty_payments_mean_none(paid, empty):
    """An invoice with a null or empty payment has no payment, whatever its status."""
    invoice = parsing.parse_invoice(paid | {"payment": empty, "wallet": empty})
    assert (invoice.status, invoice.payment) == (schemas.PAID, None)


@pytest.mark.parametrize("empty", [None, {}, ""])
def test_a_payment_may_lack_its_wallet(transfer, empty):
    """A payment without a wallet is parsed."""
    assert parsing.parse_payment(transfer | {"wallet": empty}).wallet is None


@pytest.mark.parametrize("value", ["a text", 5, ["a list"]])
def test_payment_with_an_invoice_or_wallet_of_a_wrong_shape_is_refused(transfer, value):
    """An invoice or wallet of a wrong shape is an error and not treated as missing."""
    for name in ("invoice", "wallet"):
        with pytest.raises(ValueError, match="object"):
            parsing.parse_payment(transfer | {name: value})


def test_statuses_and_ids_are_normalised(canceled):
    """Status, project and currency get one spelling, ids become UUIDs."""
    upper = {name: str(value).upper() for name, value in canceled.items() if value}
    invoice = parsing.parse_invoice(upper | {"currencyFiat": "usd"})
    assert (invoice.status, invoice.project_id, invoice.currency, invoice.id) == (
        "canceled",
        canceled["projectId"],
        "USD",
        uuid.UUID(canceled["id"]),
    )


@pytest.mark.parametrize(
    ("field", "attribute", "remote", "parsed"),
    [
        # A status that is not documented is kept.
        ("status", "status", "frozen", "frozen"),
        ("views", "views", "3", 3),
        ("views", "views", 7, 7),
        ("views", "views", "x", None),
        ("views", "views", -1, None),
        ("views", "views", [], None),
        # The maximum of the database column.
        ("views", "views", 10**11, 2**31 - 1),
        *(
            ("createDatetime", "created_at", value, None)
            for value in ("soon", 5, [], {}, "2024-99-99 00:00:00")
        ),
        ("serviceData", "service_data", {"orderId": 1}, ""),
    ],
)
def test_strange_optional_value_does_not_hide_the_invoice(
    canceled, field, attribute, remote, parsed
):
    """An invalid value of an optional field becomes empty, and a number is limited."""
    assert getattr(parsing.parse_invoice(canceled | {field: remote}), attribute) == parsed


def test_texts_can_be_stored(paid, transfer):
    """NUL and single surrogates, which databases refuse, are removed, and long texts are cut."""
    invoice = parsing.parse_invoice(paid | {"serviceData": "a\x00b" + "c" * 5000})
    assert invoice.service_data.startswith("abc")
    assert len(invoice.service_data) <= 2000
    assert "\x00" not in parsing.parse_payment(transfer | {"hash": "\x00f0\x00"}).hash
    assert parsing.parse_payment(transfer | {"hash": "f0\ud800"}).hash.encode()


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        *(
            ("url", url, "no payment page")
            for url in (None, "", 5, [], "https://dash.bitsby.app/" + "x" * 2000)
        ),
        ("id", None, "UUID"),
    ],
)
def test_creation_without_an_id_or_a_payment_page_is_refused(creation, field, value, error):
    """A new invoice without an id or a valid payment page is an error."""
    with pytest.raises(ValueError, match=error):
        parsing.parse_created(creation | {field: value})


@pytest.mark.parametrize("wallets", [None, "x", {}, [], ["x", 5, None]])
def test_a_creation_stands_without_readable_wallets(creation, wallets):
    """A new invoice is parsed even if its wallets are invalid."""
    created = parsing.parse_created(creation | {"wallets": wallets})
    assert (created.wallets, created.uid) == ((), "MXNj4m8HhcM4")


def test_one_strange_wallet_does_not_hide_the_others(creation):
    """Invalid wallets are skipped; an invalid amount becomes None."""
    creation["wallets"][0] = "strange"
    creation["wallets"][1]["amountCrypto"] = "much"
    wallets = parsing.parse_created(creation).wallets
    assert [wallet.amount for wallet in wallets[:2]] == [None, Decimal("11.45")]
    assert len(wallets) == 4


@pytest.mark.parametrize("name", ["createDatetime", "timeToPayDatetime", "uid"])
def test_a_creation_may_lack_its_times_and_short_id(creation, name):
    """A new invoice without times or short id is parsed."""
    del creation[name]
    assert parsing.parse_created(creation).url == creation["url"]


@pytest.mark.parametrize(
    ("remote", "internal"),
    [("100.00", "100.00"), ("-12.34", "-12.34"), (-5, "-5"), (0, "0"), ("-0.00", "0")],
)
def test_balances_keep_their_sign(payload, remote, internal):
    """A negative balance keeps its sign."""
    balances = parsing.parse_balances(payload("billing_balances")["data"] | {"internal": remote})
    assert (balances.internal, balances.partner) == (Decimal(internal), Decimal(0))


@pytest.mark.parametrize("remote", [None, "", "--5", "much", [], {}])
def test_unreadable_balances_are_refused(payload, remote):
    """A balance that is not a number is a ``ValueError``, not zero."""
    with pytest.raises(ValueError, match=r"amount|text"):
        parsing.parse_balances(payload("billing_balances")["data"] | {"internal": remote})


def test_tariffs_are_read():
    """A tariff has its project, who pays, and the rate in percent or None."""
    item = {"id": "ABC", "name": "Shop", "30dPayments": "5", "payer": "seller", "rate": "0.75"}
    assert parsing.parse_tariff(item) == schemas.Tariff("abc", "Shop", "seller", Decimal("0.75"))
    assert parsing.parse_tariff(item | {"rate": "?"}).rate is None


@pytest.mark.parametrize("name", ["invoice", "payment", "wallet", "created", "balances", "tariff"])
@pytest.mark.parametrize("data", [None, "text", 5, 1.5, True, [], ["x"], [{}]])
def test_parsers_need_an_object(name, data):
    """Each parser raises ``ValueError`` for anything but an object."""
    with pytest.raises(ValueError, match="object"):
        getattr(parsing, f"parse_{name}")(data)


@pytest.mark.parametrize(
    "value",
    [None, "", "x", 5, 1.0, [], "9deea1e2-0c08", "9" * 46, "g" * 32, "s" * 32, uuid.uuid4()],
)
def test_id_is_a_uuid_in_a_text(value):
    """Anything else is a ``ValueError``, which does not repeat the refused value."""
    with pytest.raises(ValueError, match=r"UUID|invalid literal") as caught:
        parsing.parse_uuid(value)
    assert len(str(value)) < 32 or str(value) not in str(caught.value)
