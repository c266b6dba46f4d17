"""What keeps the shop running: system checks, diagnostics and pruning."""
