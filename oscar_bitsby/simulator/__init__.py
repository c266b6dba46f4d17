"""A fake Bitsby in a process of its own, for development, demos and tests.

Nothing here knows Django or the rest of the package, and no setting of a shop starts it:
it runs only when somebody types ``python -m oscar_bitsby.simulator``.
"""
