"""What the webhooks of other projects need, and the bare view for comparison."""
