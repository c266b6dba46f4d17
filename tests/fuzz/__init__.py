"""Fuzz tests: seeded sequences of invalid deliveries and answers, and what must hold."""
