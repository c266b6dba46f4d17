"""What other projects' webhooks need in a shop, and the bare view that all are measured by."""
