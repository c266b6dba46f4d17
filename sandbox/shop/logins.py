"""The two accounts of the sandbox. Their passwords are public, so use them nowhere else."""

ADMIN_USERNAME = "admin"
ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "bitsby-demo-1"
BUYER_USERNAME = "buyer"
BUYER_EMAIL = "buyer@example.com"
BUYER_PASSWORD = "bitsby-demo-2"
