"""E-mails to buyers: enqueued in the transaction that causes them, and sent later."""
