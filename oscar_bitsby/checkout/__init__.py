"""The payment step and the placing of orders in Oscar's checkout."""
