"""``bitsby_reconcile``: one run, or one after another."""

import logging
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from oscar_bitsby.exceptions import BitsbyError
from oscar_bitsby.reconciliation import run

logger = logging.getLogger("oscar_bitsby")

MAX_PAUSE = 24 * 3600


class Command(BaseCommand):
    help = (
        "Fetches from Bitsby what became of all watched invoices: books payments, expires invoices,"
        " cancels unpaid orders and sends e-mails. Run it every minute or two, by cron or with"
        " --loop."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--loop",
            type=float,
            metavar="SECONDS",
            help="run until stopped, with this pause between two runs",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="fetch, and name the orders that a run would change, but change nothing",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pause, dry_run = options["loop"], options["dry_run"]
        if pause is None:
            try:
                self._run_once(dry_run)
            except BitsbyError as error:
                raise CommandError(f"{error}. Nothing is lost: run it again.") from None
            return
        if not 0 < pause <= MAX_PAUSE:
            raise CommandError("--loop needs a number of seconds above zero, at most a day")
        self._loop(pause, dry_run)

    def _loop(self, pause: float, dry_run: bool) -> None:
        stopped = threading.Event()
        if threading.current_thread() is threading.main_thread():
            # The current run is finished first. A run that is killed loses nothing, either.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopped.set())
        while not stopped.is_set():
            close_old_connections()
            try:
                self._run_once(dry_run)
            except BitsbyError as error:
                self.stderr.write(f"{error}. The next run tries again.")
            except Exception:
                # The loop survives, for example, a restart of the database.
                logger.exception("the run failed; the next one tries again")
            stopped.wait(pause)

    def _run_once(self, dry_run: bool) -> None:
        report = run.reconcile(dry_run=dry_run, progress=self._progress)
        self._progress("")
        prefix = "would do: " if dry_run else ""
        self.stdout.write(f"{prefix}{report}")
        for line in report.planned:
            self.stdout.write(f"  {line}")
        if report.has_more:
            self.stdout.write("  and more")

    def _progress(self, text: str) -> None:
        """Show the current step in one line on a terminal."""
        if self.stdout.isatty():
            self.stdout.write(f"\r\033[K{text}", ending="")
            self.stdout.flush()
