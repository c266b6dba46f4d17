"""Money: Oscar's ledger, the fiat values of payments, and the invoices that they fit."""
