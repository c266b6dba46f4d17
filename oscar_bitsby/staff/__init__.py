"""What staff do in the admin and the dashboard: review and bind payments, see invoices."""
