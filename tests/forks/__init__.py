"""Shops with a forked checkout or order app, each run in a separate process."""
