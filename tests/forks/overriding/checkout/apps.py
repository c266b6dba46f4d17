"""The config that ``oscar_fork_app`` writes."""

from oscar.apps.checkout import apps


class CheckoutConfig(apps.CheckoutConfig):
    name = "tests.forks.overriding.checkout"
