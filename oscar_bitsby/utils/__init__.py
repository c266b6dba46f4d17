"""Helpers that use no model of Oscar's."""
