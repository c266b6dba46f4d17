"""``bitsby_doctor``: is this shop set up correctly, and are payments settled?"""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from oscar_bitsby.ops import doctor, findings
from oscar_bitsby.utils.plurals import plural


class Command(BaseCommand):
    help = (
        "Checks the settings, the database, the runs of bitsby_reconcile, the webhook and the"
        " Bitsby account, and says what is wrong and what to do. It changes nothing and exits with"
        " an error if there is a problem."
    )
    # The doctor runs them itself: their errors must not stop it.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--offline", action="store_true", help="send no requests to Bitsby")

    def handle(self, *args: Any, **options: Any) -> None:
        problems = 0
        styles = {
            findings.OK: self.style.SUCCESS,
            findings.WARNING: self.style.WARNING,
            findings.PROBLEM: self.style.ERROR,
        }
        for found in doctor.run_diagnostics(offline=options["offline"]):
            self.stdout.write(f"{styles[found.state](f'[{found.state}]')} {found.text}")
            if found.remedy:
                self.stdout.write(f"    → {found.remedy}")
            problems += found.state == findings.PROBLEM
        if problems:
            raise CommandError(f"{plural(problems, 'problem')}.")
        self.stdout.write("No problem found.")
