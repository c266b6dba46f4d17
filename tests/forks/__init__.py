"""Shops whose checkout or order app is forked, each run in a process of its own."""
