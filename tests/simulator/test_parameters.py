from datetime import date
from decimal import Decimal

import pytest

from oscar_bitsby.simulator import parameters
from oscar_bitsby.simulator.state import Refused


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parameters.parse_fiat_amount, "10.555", Decimal("10.56")),
        (parameters.parse_fiat_amount, "10", Decimal("10.00")),
        (parameters.parse_crypto_amount, "0.00000001", Decimal("0.00000001")),
        (parameters.parse_hours, "0.50", Decimal("0.5")),
        (parameters.parse_hours, "12.0", Decimal("12")),
        (parameters.parse_currency, "RUB", "RUB"),
        (parameters.parse_status, "canceled", "canceled"),
        (parameters.parse_date, "2024-02-29", date(2024, 2, 29)),
        (parameters.parse_integer, "0", 0),
        (parameters.parse_count, "50", 50),
        (
            parameters.parse_uuid,
            "9DEEA1E2-0C08-41A3-BDC2-A34EADA3892D",
            "9deea1e2-0c08-41a3-bdc2-a34eada3892d",
        ),
    ],
)
def test_documented_values_are_accepted(parse, text, value):
    """What the documentation allows is read."""
    assert parse(text) == value


#: Values that each parser does not accept.
INVALID = {
    parameters.parse_fiat_amount: ["0", "0.004", "-1", "1e3", "NaN", "1,5", ""],
    parameters.parse_crypto_amount: ["0", "0.000000001", "+1", "\u0661", "1 "],
    parameters.parse_hours: ["2", "24", "0", "one"],
    parameters.parse_currency: ["usd", "GBP", ""],
    parameters.parse_status: ["cancelled"],
    parameters.parse_date: ["2024-02-30", "20240229", "29.02.2024"],
    parameters.parse_integer: ["-1", "1.0", "", "9" * 5000],
    parameters.parse_count: ["0"],
    parameters.parse_uuid: ["9deea1e20c0841a3bdc2a34eada3892d", "", "1"],
}


@pytest.mark.parametrize(
    ("parse", "text"), [(parse, text) for parse, texts in INVALID.items() for text in texts]
)
def test_other_values_are_refused(parse, text):
    """What the documentation does not allow is refused with the name of the parameter."""
    with pytest.raises(Refused, match="Parameter it is invalid"):
        parameters.optional({"it": text}, "it", parse)


def test_only_a_mandatory_parameter_may_not_be_missing():
    """Only a mandatory parameter may not be missing."""
    assert parameters.optional({}, "it", parameters.parse_uuid) is None
    with pytest.raises(Refused, match="Parameter it is missing"):
        parameters.required({}, "it", parameters.parse_uuid)
