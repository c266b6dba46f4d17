"""Bitsby's API: requests, answers and the account's rate limit. It knows nothing of orders."""
