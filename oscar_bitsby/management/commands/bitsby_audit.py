"""``bitsby_audit``: prove that Bitsby's lists, our rows and Oscar's ledger say the same."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError, no_translations

from oscar_bitsby.accounting.audit import Difference
from oscar_bitsby.choices import AuditState, DifferenceKind
from oscar_bitsby.exceptions import BitsbyError, GatewayError
from oscar_bitsby.reconciliation import audit
from oscar_bitsby.reconciliation.audit import AuditResult
from oscar_bitsby.utils.arguments import day

#: The exit statuses for differences, and for an audit that proves nothing.
DIFFERENT, NOT_FINISHED = 1, 2


class Command(BaseCommand):
    help = (
        "Reads all of Bitsby's payments and invoices, or those of some days, and compares them with"
        " the shop's rows and with Oscar's ledger. It changes nothing but the record of its result."
        " The exit status is 0 if nothing differs, 1 if something does, and 2 if it could not be"
        " finished: run it again, and it continues where it stopped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from", type=day, metavar="DAY", help="the first day in UTC, as 2026-12-01"
        )
        parser.add_argument("--to", type=day, metavar="DAY", help="the day after the last one")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @no_translations
    def handle(self, *args: Any, **options: Any) -> None:
        output = _Json(self) if options["json"] else _Text(self)
        try:
            result = audit.audit(
                options["from"],
                options["to"],
                report=output.add,
                progress=self._progress,
            )
        except BitsbyError as error:
            self._progress("")
            output.fail(str(error))
            again = " Run it again: it continues where it stopped."
            raise CommandError(
                f"Not finished: {error}.{again if isinstance(error, GatewayError) else ''}",
                returncode=NOT_FINISHED,
            ) from None
        self._progress("")
        output.end(result)
        if result.state == AuditState.DIFFERENT:
            raise CommandError(f"{result}.", returncode=DIFFERENT)
        if result.state == AuditState.UNPROVED:
            raise CommandError(
                f"Nothing differs, but that is no proof: {'; '.join(result.unproved)}.",
                returncode=NOT_FINISHED,
            )

    def _progress(self, text: str) -> None:
        """Show the current step in one line on a terminal."""
        if self.stderr.isatty():
            # Progress is not an error, so it is not coloured as one.
            self.stderr.write(f"\r\033[K{text}", lambda line: line, ending="")
            self.stderr.flush()


class _Text:
    """Text: a paragraph for each difference, and the sums of the wallets."""

    def __init__(self, command: Command) -> None:
        self._write = command.stdout.write

    def add(self, difference: Difference) -> None:
        found = difference.as_dict()
        ids = (f"{name.replace('_', ' ')} {found[name]}" for name in list(found)[3:])
        self._write(f"{DifferenceKind(difference.kind).label}: {', '.join(ids)}")
        self._write(f"    {difference.text}.")
        self._write(f"    → {difference.remedy}")

    def fail(self, error: str) -> None:
        pass

    def end(self, result: AuditResult) -> None:
        for one in result.wallets:
            sums = one.as_dict()
            wallet, coin = sums.pop("wallet"), sums.pop("coin")
            parts = (f"{value} {name.replace('_', ' ')}" for name, value in sums.items())
            self._write(f"Wallet {wallet or 'without an id'} ({coin}): {', '.join(parts)}")
        for text in (*result.unproved, *result.notes):
            self._write(f"Note: {text}.")
        self._write(f"{str(result)[:1].upper()}{str(result)[1:]}.")


class _Json:
    """JSON: one object, whose differences are printed as they are found."""

    def __init__(self, command: Command) -> None:
        self._write, self._count = command.stdout.write, 0

    def add(self, difference: Difference) -> None:
        self._begin(", " if self._count else "")
        self._write(json.dumps(difference.as_dict()), ending="")

    def fail(self, error: str) -> None:
        self._close({"state": AuditState.RUNNING, "error": error})

    def end(self, result: AuditResult) -> None:
        run = result.run
        self._close(
            {
                "state": result.state,
                "from": run.date_from and run.date_from.isoformat(),
                "to": run.date_to and run.date_to.isoformat(),
                "payments": run.payments_read,
                "invoices": run.invoices_read,
                "requests": run.requests,
                "counts": dict(result.counts),
                "wallets": [one.as_dict() for one in result.wallets],
                "unproved": result.unproved,
                "notes": result.notes,
            }
        )

    def _begin(self, separator: str) -> None:
        self._write(separator if self._count else '{"differences": [', ending="")
        self._count += 1

    def _close(self, rest: dict[str, Any]) -> None:
        if not self._count:
            self._begin("")
        self._write(f"], {json.dumps(rest)[1:]}")
