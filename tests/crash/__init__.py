"""Kill the shop's process between any two effects, start it again, and audit what it made of it."""
