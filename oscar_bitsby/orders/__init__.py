"""Oscar's order: its stage, payment status, transitions, and the links to its pages."""
