"""Optional parts, each for another package that the shop installs."""
