"""Oscar's dashboard: the money inbox, the invoices, and an order's Bitsby tab."""
