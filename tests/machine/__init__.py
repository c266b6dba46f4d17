"""A shop and a Bitsby driven through random histories, compared with a model after every step."""
