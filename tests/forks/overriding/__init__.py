"""A shop whose checkout fork overrides views where Oscar looks for them."""
