"""Ask Bitsby what became of invoices, one or many, and have the answers settled."""

from oscar_bitsby.reconciliation.invoice_refresh import refresh
from oscar_bitsby.reconciliation.run import reconcile

__all__ = ["reconcile", "refresh"]
