"""The pages that a buyer sees after checkout."""
