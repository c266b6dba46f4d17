"""``bitsby_doctor``: is this shop set up right, and do its payments flow?"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from oscar_bitsby.ops import doctor


class Command(BaseCommand):
    help = (
        "Looks at the settings, the database, the passes, the webhook and the Bitsby account, and"
        " says what is wrong and what to do. Changes nothing; ends with an error where there is a"
        " problem."
    )
    # They are among what is looked at, and say what is missing without ending the command.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--offline", action="store_true", help="do not ask Bitsby")

    def handle(self, *args: Any, **options: Any) -> None:
        problems = 0
        styles = {
            doctor.OK: self.style.SUCCESS,
            doctor.WARNING: self.style.WARNING,
            doctor.PROBLEM: self.style.ERROR,
        }
        for found in doctor.run_diagnostics(offline=options["offline"]):
            self.stdout.write(f"{styles[found.state](f'[{found.state}]')} {found.text}")
            if found.remedy:
                self.stdout.write(f"    → {found.remedy}")
            problems += found.state == doctor.PROBLEM
        if problems:
            raise CommandError("1 problem." if problems == 1 else f"{problems} problems.")
        self.stdout.write("No problem found.")
