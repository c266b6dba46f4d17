"""Helpers that several test modules share, one file for each topic."""
