"""``bitsby_export``: payments, refunds or invoices of some days, for the accountant."""

import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, Any

from django.core.management.base import BaseCommand, CommandError, no_translations

from oscar_bitsby.accounting import export, export_formats
from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.utils.arguments import day
from oscar_bitsby.utils.files import atomic_file


class Command(BaseCommand):
    help = (
        "Exports each payment and each sent refund, or each invoice, as one row. Days are in"
        " UTC. It changes nothing, and an error leaves no file behind."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from", type=day, required=True, metavar="DAY", help="the first day, as 2026-12-01"
        )
        parser.add_argument(
            "--to", type=day, required=True, metavar="DAY", help="the day after the last one"
        )
        parser.add_argument(
            "--kind", choices=export.KINDS, default="", help="default: payments and refunds"
        )
        parser.add_argument("--format", choices=export_formats.FORMATS, default="csv")
        parser.add_argument(
            *("-o", "--output"), default="-", metavar="FILE", help="default: standard output"
        )

    @no_translations
    def handle(self, *args: Any, **options: Any) -> None:
        kind, format_, name = options["kind"], options["format"], options["output"]
        if name == "-" and format_ == export_formats.XLSX and self.stdout.isatty():
            raise CommandError("An XLSX file cannot be shown on a terminal: add -o FILE.")
        try:
            period = export.period_of(options["from"], options["to"])
            export_formats.check_format(format_, lambda: export.count_rows(period, kind))
            rows = self._with_progress(export.rows_of(period, kind), period, kind)
            with self._standard_output() if name == "-" else atomic_file(name) as file:
                export_formats.write(rows, format_, file)
        except BitsbyError as error:
            raise CommandError(f"{error}.") from error
        except OSError as error:
            raise CommandError(f"The export cannot be written: {error}.") from error

    @contextmanager
    def _standard_output(self) -> Iterator[IO[bytes]]:
        """Print what was written, once the block has ended without an error."""
        with tempfile.TemporaryFile() as file:
            yield file
            file.seek(0)
            if self.stdout._out is sys.stdout and hasattr(sys.stdout, "buffer"):
                # The file is UTF-8, whatever the encoding of the terminal.
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                self.stdout.write(file.read().decode(), ending="")

    def _with_progress(
        self, rows: Iterable[export.Row], period: export.Period, kind: str
    ) -> Iterable[export.Row]:
        """Show a bar on a terminal, if tqdm is installed."""
        if not self.stderr.isatty() or find_spec("tqdm") is None:
            return rows
        from tqdm import tqdm

        total = export.count_rows(period, kind)
        shown: Iterable[export.Row] = tqdm(rows, total=total, unit=" rows", file=self.stderr._out)
        return shown
