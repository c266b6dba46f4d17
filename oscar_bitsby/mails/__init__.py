"""E-mails to buyers: written to an outbox with what causes them, and sent later."""
