"""A fake Bitsby that runs as its own process, for development, demos and tests.

It is a small Django project: ``views`` speak HTTP, the rest is one merchant account in plain
Python. It imports nothing of the app and the app nothing of it; no setting of a shop starts it.
"""
