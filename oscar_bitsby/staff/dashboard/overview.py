"""The dashboard's overview: the sums of a month, by day and coin."""

from typing import Any

from django.utils.translation import gettext as _
from django.views.generic import TemplateView

from oscar_bitsby.accounting.overview import CurrencyFigures, overview_of
from oscar_bitsby.choices import AuditState
from oscar_bitsby.models import AuditRun
from oscar_bitsby.staff.dashboard.access import DashboardMixin
from oscar_bitsby.staff.dashboard.charts import draw_days
from oscar_bitsby.staff.permissions import require_see_permission
from oscar_bitsby.utils.money import plain_amount
from oscar_bitsby.utils.months import Month

#: Bootstrap's classes of the line about the last audit, by its result.
AUDIT_LEVELS = {
    AuditState.PROVED: "success",
    AuditState.DIFFERENT: "danger",
    AuditState.UNPROVED: "warning",
}


class OverviewView(DashboardMixin, TemplateView):
    """Show the figures of the month that ``?month=YYYY-MM`` names, or of the current one."""

    require_permission = staticmethod(require_see_permission)
    template_name = "oscar_bitsby/dashboard/overview.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        current, error = Month.current(), ""
        month, text = current, self.request.GET.get("month", "").strip()
        try:
            month = Month.parse(text) if text else current
        except ValueError:
            error = _("“%(text)s” is not a month. Enter one like %(example)s.") % {
                "text": text[:20],
                "example": current,
            }
        overview = overview_of(month)
        return super().get_context_data(**kwargs) | {
            "month": month,
            "previous": month.previous,
            # Nothing is booked in the future.
            "next": month.next if month < current else None,
            "error": error,
            "sections": [_section(month, figures) for figures in overview.currencies],
            "unvalued": [
                {"row": row, "coins": f"{plain_amount(row.coin_amount)} {row.coin}".strip()}
                for row in overview.unvalued
            ],
            "has_undecided": any(not row.is_refund for row in overview.unvalued),
            "audit": _last_audit(),
        }


def _section(month: Month, figures: CurrencyFigures) -> dict[str, Any]:
    """Return what the page shows of one currency."""
    paid, days = figures.total.paid.amount, figures.by_day
    coins = [
        {"coin": coin, "figures": of_coin, "share": _percent(of_coin.paid.amount, paid)}
        for coin, of_coin in sorted(
            figures.by_coin.items(), key=lambda item: (-item[1].paid.amount, not item[0], item[0])
        )
    ]
    return {
        "currency": figures.currency,
        "total": figures.total,
        "days": sorted(days.items()),
        "coins": coins,
        "days_and_coins": sorted(figures.by_day_and_coin.items()) if len(coins) > 1 else [],
        "money_chart": draw_days(month.days, days, ["paid"], ["refunds"]),
        "open_chart": draw_days(month.days, days, ["to_decide", "waiting"]),
    }


def _percent(part: Any, whole: Any) -> int | None:
    return round(100 * part / whole) if part and whole else None


def _last_audit() -> dict[str, Any] | None:
    """Return the result of the last finished audit, or None if there was none."""
    run = AuditRun.objects.finished().first()
    if run is None:
        return None
    return {
        "run": run,
        "level": AUDIT_LEVELS[AuditState(run.state)],
        "differences": run.difference_count,
    }
