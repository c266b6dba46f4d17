"""The payment step, and placing an order that Bitsby will be asked about later."""
