"""A shop whose checkout fork names its own view classes in its URLs."""
