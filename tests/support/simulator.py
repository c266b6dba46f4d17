"""The simulator as the shop's gateway, and the requests that it received."""

from itertools import pairwise


def gateway_settings(simulator):
    """Return the settings of a shop whose gateway is the simulator."""
    return {"API_URL": simulator.url, "PAYMENT_HOSTS": ["127.0.0.1"]}


def pay(simulator, invoice):
    """Pay an invoice at the simulator, and return the id of the payment."""
    return simulator.control("pay", {"invoiceId": str(invoice.bitsby_id)})["paymentId"]


def accepted_at(simulator):
    """Return the times of all requests; none may be refused."""
    requests = simulator.control("state")["requests"]
    assert all(request["accepted"] for request in requests)
    return [request["at"] for request in requests]


def assert_spaced(simulator):
    """Assert that all requests were accepted, at least a second apart."""
    assert all(after - before >= 1.0 for before, after in pairwise(accepted_at(simulator)))
