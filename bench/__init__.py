"""What the performance figures of the project are measured with: ``make bench``."""
