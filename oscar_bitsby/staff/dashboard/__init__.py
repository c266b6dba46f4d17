"""The pages in Oscar's dashboard."""
