"""Fetches invoices and payments from Bitsby and has them settled; what shops may call."""

from oscar_bitsby.reconciliation.invoice_refresh import refresh
from oscar_bitsby.reconciliation.run import reconcile

__all__ = ["reconcile", "refresh"]
