"""The payment step of Oscar's checkout, with Bitsby in it."""
