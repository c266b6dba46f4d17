"""A shop without django.contrib.admin, for a process of its own."""
