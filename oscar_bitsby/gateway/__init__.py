"""Bitsby's API: requests, answers and the account's rate limit. It knows no orders."""
