"""The sums of each wallet: what Bitsby lists equals what was booked, waits, and so on."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Case, CharField, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Coalesce, NullIf

from oscar_bitsby.accounting.audit import Difference, Scope, each
from oscar_bitsby.accounting.audit_payments import not_synced_yet
from oscar_bitsby.choices import DifferenceKind
from oscar_bitsby.models import AuditedItem

BOOKED, WAITING, DISMISSED, OTHER = "booked", "waiting", "dismissed", "other_projects"
NOT_SYNCED = "not_synced_yet"
_ZERO = Decimal(0)


@dataclass
class WalletSums:
    """The sums of one wallet in one coin. ``listed`` should equal the sum of all others."""

    wallet: str
    coin: str
    listed: Decimal = _ZERO
    booked: Decimal = _ZERO
    waiting: Decimal = _ZERO
    dismissed: Decimal = _ZERO
    other_projects: Decimal = _ZERO
    not_synced_yet: Decimal = _ZERO

    @property
    def explained(self) -> Decimal:
        """What the shop can say about the coins."""
        parts = (self.booked, self.waiting, self.dismissed, self.other_projects)
        return sum(parts, self.not_synced_yet)

    def as_dict(self) -> dict[str, str]:
        """Return all sums as texts with all their digits."""
        amounts = ("listed", BOOKED, WAITING, DISMISSED, OTHER, NOT_SYNCED)
        return {"wallet": self.wallet, "coin": self.coin} | {
            name: f"{getattr(self, name).normalize():f}" for name in amounts
        }


def _part(prefix: str = "") -> Case:
    """Return what became of one of our payments. Undecided ones wait, too."""
    return Case(
        When(Q(**{f"{prefix}booked_at__isnull": False}), then=Value(BOOKED)),
        When(Q(**{f"{prefix}resolved_at__isnull": False}), then=Value(DISMISSED)),
        default=Value(WAITING),
        output_field=CharField(),
    )


def sum_wallets(scope: Scope) -> list[WalletSums]:
    """Return the sums by wallet and coin, exactly: databases without decimals would round them."""
    wallets: dict[tuple[str, str], WalletSums] = {}

    def add(wallet: str, coin: str, part: str, amount: Decimal) -> None:
        sums = wallets.setdefault((wallet, coin), WalletSums(wallet, coin))
        setattr(sums, part, getattr(sums, part) + amount)

    for wallet, coin, part, amount in _listed(scope):
        add(wallet, coin, "listed", amount)
        if part:
            add(wallet, coin, part, amount)
    for wallet, coin, part, amount in _recorded(scope):
        add(wallet, coin, part, amount)
    return [wallets[key] for key in sorted(wallets)]


def _listed(scope: Scope) -> Iterator[tuple[Any, ...]]:
    """Yield all listed payments; those that our rows do not explain with their part of the sum."""
    is_ours = Q(is_ours=True) | Q(invoice__isnull=False)
    part = Case(
        # Counted with our own amount, by ``_recorded``.
        When(payment__is_foreign=False, then=Value("")),
        When(not_synced_yet(scope) & is_ours, then=Value(NOT_SYNCED)),
        When(is_ours, then=Value("")),
        default=Value(OTHER),
        output_field=CharField(),
    )
    items = scope.items(payments=True).annotate(part=part)
    yield from _values(items, F("wallet_id"), F("currency"))


def _recorded(scope: Scope) -> Iterator[tuple[Any, ...]]:
    """Yield our payments, but those that were recorded after the lists were read."""
    listed = AuditedItem.objects.filter(run=scope.run, is_payment=True)
    named = listed.filter(bitsby_id=OuterRef("bitsby_id"))
    rows = scope.payments().annotate(
        part=_part(),
        listed_wallet=named.values("wallet_id")[:1],
        listed_coin=named.values("currency")[:1],
    )
    rows = rows.filter(Exists(named) | Q(seen_at__lt=scope.run.started_at))
    if scope.has_days:
        rows = rows.filter(Exists(named) | Q(transaction_at__isnull=False))
    # A row that was written without its wallet counts for the one that Bitsby names.
    wallet = Coalesce(NullIf(F("wallet_id"), Value("")), "listed_wallet", Value(""))
    coin = Coalesce(NullIf(F("cryptocurrency"), Value("")), "listed_coin", Value(""))
    yield from _values(rows, wallet, coin)


def _values(rows: Any, wallet: Any, coin: Any) -> Iterator[tuple[Any, ...]]:
    rows = rows.annotate(sums_of_wallet=wallet, sums_of_coin=coin)
    for row in each(rows.only("pk", "amount")):
        yield row.sums_of_wallet, row.sums_of_coin, row.part, row.amount


def compare_wallets(sums: list[WalletSums]) -> Iterator[Difference]:
    """Compare the two sides of each wallet."""
    for one in sums:
        if one.listed != one.explained:
            yield Difference(
                DifferenceKind.WALLET_SUM,
                f"Bitsby lists {one.listed.normalize():f} {one.coin}, and booked, waiting,"
                f" dismissed and other projects' payments sum up to {one.explained.normalize():f}",
                "The differences of single payments explain it.",
                wallet=one.wallet,
            )
