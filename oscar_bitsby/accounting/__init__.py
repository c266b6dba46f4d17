"""Money as it is booked: Oscar's ledger, what payments are worth, and what they fit."""
