"""``bitsby_prune``: delete old rows and addresses that a shop no longer needs."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from oscar_bitsby.exceptions import ConfigurationError
from oscar_bitsby.ops import pruning


class Command(BaseCommand):
    help = (
        "Deletes old webhook deliveries, records of old e-mails to buyers, old payments of other"
        " projects of the Bitsby account, old attempts to create an invoice that failed, and old"
        " records of audits."
        " Erases the addresses of old refunds. Invoices, refunds, and payments that are booked,"
        " bound, refunded or waiting for review, are kept for good. Run it every week in a busy"
        " shop."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--deliveries",
            type=int,
            metavar="DAYS",
            default=pruning.DELIVERY_DAYS,
            help="delete webhook deliveries that are older (default: %(default)s)",
        )
        parser.add_argument(
            "--mails",
            type=int,
            metavar="DAYS",
            default=pruning.MAIL_DAYS,
            help="delete records of e-mails that are older (default: %(default)s)",
        )
        parser.add_argument(
            "--dismissed",
            type=int,
            metavar="DAYS",
            help="also delete payments that were dismissed earlier than this, unless they belong"
            " to an invoice (default: keep them)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count the rows")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            pruned = pruning.prune(
                delivery_days=options["deliveries"],
                mail_days=options["mails"],
                dismissed_days=options["dismissed"],
                dry_run=options["dry_run"],
            )
        except (pruning.CannotPrune, ConfigurationError) as error:
            raise CommandError(f"{error}.") from None
        self.stdout.write(f"{'would delete' if options['dry_run'] else 'deleted'}: {pruned}")
