"""Oscar's order: its stage, its payment status, its transitions and the links to its pages."""
