"""Bar charts of the days of a month: where the bars, lines and labels of an SVG image are.

All lengths are texts in units of the image, so that no language gives them a decimal comma.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from babel.numbers import format_compact_decimal
from django.utils.translation import get_language, to_locale

from oscar_bitsby.accounting.overview import Figures

#: The room of the labels beside and below the bars, of a day, and of all bars.
LEFT, BELOW, DAY, HEIGHT = 60, 26, 20, 200
#: Lines that the longer side of the zero line has at most.
MAX_LINES = 4


@dataclass(frozen=True)
class Bar:
    """The bar of one figure; ``name`` chooses its colour."""

    name: str
    y: str
    height: str


@dataclass(frozen=True)
class Column:
    """A day: its bars, and its figures for the tooltip."""

    day: dt.date
    x: str
    bar_x: str
    label_x: str
    #: A narrow screen has no room for the labels of all days.
    is_labelled: bool
    bars: list[Bar]
    figures: Figures | None


@dataclass(frozen=True)
class Line:
    """A line of the grid with its amount, shortened for the reader's language."""

    y: str
    label_y: str
    label: str
    is_zero: bool


@dataclass(frozen=True)
class Chart:
    """An image of bars above and below the zero line; a day is ``DAY`` wide."""

    columns: list[Column]
    lines: list[Line]
    width: str
    height: str
    left: str = str(LEFT)
    label_x: str = str(LEFT - 6)
    bar_width: str = str(DAY - 6)
    day_width: str = str(DAY)
    plot_height: str = str(HEIGHT + 12)
    labels_y: str = str(HEIGHT + BELOW)


def draw_days(
    days: Sequence[dt.date],
    figures: Mapping[dt.date, Figures],
    above: Sequence[str],
    below: Sequence[str] = (),
) -> Chart | None:
    """Return the chart of a month, or None if there is nothing to draw.

    Args:
        days: all days of the month.
        figures: those of the days that have some.
        above, below: the names of the figures to stack above and below the zero line.
    """

    def highest(names: Sequence[str]) -> Decimal:
        return max((_height(one, names) for one in figures.values()), default=Decimal(0))

    top, bottom = highest(above), highest(below)
    if not top and not bottom:
        return None
    step = _step(max(top, bottom))
    up, down = (int((side / step).to_integral_value(ROUND_CEILING)) for side in (top, bottom))
    unit = HEIGHT / (float(step) * (up + down))
    zero = 12 + up * float(step) * unit
    columns = []
    for number, day in enumerate(days):
        found, x = figures.get(day), LEFT + number * DAY
        bars = [] if found is None else _bars(found, above, below, zero, unit)
        columns.append(
            Column(day, str(x), str(x + 3), str(x + DAY // 2), number % 7 == 0, bars, found)
        )
    lines = [
        _line(number, step, zero - number * float(step) * unit) for number in range(-down, up + 1)
    ]
    return Chart(columns, lines, str(LEFT + len(days) * DAY), str(HEIGHT + BELOW + 10))


def _height(figures: Figures, names: Sequence[str]) -> Decimal:
    return sum((getattr(figures, name).amount for name in names), Decimal(0))


def _bars(
    figures: Figures, above: Sequence[str], below: Sequence[str], zero: float, unit: float
) -> list[Bar]:
    bars = []
    for names, sign in ((above, -1), (below, 1)):
        edge = zero
        for name in names:
            amount = float(getattr(figures, name).amount)
            if amount:
                # A small amount beside a large one stays visible.
                height = max(amount * unit, 1.5)
                bars.append(Bar(name, f"{min(edge, edge + sign * height):.2f}", f"{height:.2f}"))
                edge += sign * height
    return bars


def _step(highest: Decimal) -> Decimal:
    """Return the round amount between two lines."""
    size = Decimal(1).scaleb((highest / MAX_LINES).adjusted())
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor * MAX_LINES >= highest)


def _line(number: int, step: Decimal, y: float) -> Line:
    locale = to_locale(get_language() or "en")
    digits = 2 if step < 1 else 1
    label = format_compact_decimal(abs(number * step), locale=locale, fraction_digits=digits)
    return Line(f"{y:.2f}", f"{y + 3:.2f}", label, number == 0)
