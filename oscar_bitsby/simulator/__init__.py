"""A fake Bitsby in a process of its own, for development, demos and tests.

A small Django project of its own: it imports nothing of the app, the app imports nothing of it,
and no setting of a shop starts it. It runs only as ``python -m oscar_bitsby.simulator``.
"""
