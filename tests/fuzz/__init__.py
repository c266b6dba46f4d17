"""Rubbish in: seeded floods of strange deliveries and strange answers, and what must hold."""
