"""Kills the shop's process between any two effects, starts it again and audits its rows."""
