"""What staff do: review payments, bind them, and see invoices, in Django's admin and Oscar's dashboard."""
