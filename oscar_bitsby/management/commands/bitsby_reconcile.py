"""``bitsby_reconcile``: one pass over everything that is watched, or one after another."""

from __future__ import annotations

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

LONGEST_PAUSE = 24 * 3600


class Command(BaseCommand):
    help = (
        "Asks Bitsby what became of all invoices that are watched: books payments, ends invoices"
        " whose time is up, cancels orders that nobody pays. Run it every minute or two, by cron"
        " or with --loop."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--loop",
            type=float,
            metavar="SECONDS",
            help="go on for ever, with so many seconds between passes",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="ask and report, but change nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pause, dry_run = options["loop"], options["dry_run"]
        if pause is None:
            try:
                self._one_pass(dry_run)
            except BitsbyError as error:
                raise CommandError(f"{error}. Nothing is lost: run it again.") from None
            return
        if not 0 < pause <= LONGEST_PAUSE:
            raise CommandError("--loop needs a number of seconds above zero, at most a day")
        self._loop(pause, dry_run)

    def _loop(self, pause: float, dry_run: bool) -> None:
        ended = threading.Event()
        if threading.current_thread() is threading.main_thread():
            # A pass that runs is finished first. One that is killed instead loses nothing.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: ended.set())
        while not ended.is_set():
            close_old_connections()
            try:
                self._one_pass(dry_run)
            except BitsbyError as error:
                self.stderr.write(f"{error}. The next pass tries again.")
            except Exception:
                # A database that restarts, say: the loop outlives it.
                logger.exception("the pass failed; the next one tries again")
            ended.wait(pause)

    def _one_pass(self, dry_run: bool) -> None:
        report = run.reconcile(dry_run=dry_run, progress=self._progress)
        self._progress("")
        prefix = "would do: " if dry_run else ""
        self.stdout.write(f"{prefix}{report}")

    def _progress(self, text: str) -> None:
        """Show what is being done in one line, where somebody watches."""
        if self.stdout.isatty():
            self.stdout.write(f"\r\033[K{text}", ending="")
            self.stdout.flush()
