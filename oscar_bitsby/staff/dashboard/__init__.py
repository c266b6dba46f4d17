"""Pages for staff in Oscar's dashboard."""
