"""Pages and actions for staff: review and bind payments, list invoices."""
