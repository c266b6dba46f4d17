import pytest

from oscar_bitsby.simulator.traffic import Fault, Traffic

REQUEST = {"path": "/invoices/list", "fields": {"limit": "5"}}


def admit(traffic: Traffic, arrived: float, authorized: bool = True) -> bool:
    return traffic.admit(arrived, *REQUEST.values(), authorized)


def test_one_request_a_second_by_arrival():
    """A request is too early until a second after the last accepted one; all are logged."""
    traffic = Traffic()
    times = {100.0: True, 100.999: False, 99.0: False, 101.0: True, 101.5: False}
    assert [admit(traffic, at) for at in times] == list(times.values())
    logged = [{"at": at, "accepted": accepted, **REQUEST} for at, accepted in times.items()]
    assert traffic.requests() == logged


def test_wrong_tokens_do_not_count_towards_the_limit():
    """A request with a wrong token is refused and delays no other request."""
    traffic = Traffic()
    assert not admit(traffic, 100.0, authorized=False)
    assert admit(traffic, 100.1)


def test_faults_are_used_up_in_order():
    """Each fault happens as often as set, on its path or on all."""
    traffic = Traffic()
    drop = Fault("drop", path="/invoices/create", times=2)
    traffic.set_faults([drop, Fault("delay"), Fault("body", times=0)])

    def kind(path):
        fault = traffic.next_fault(path)
        return fault and fault.kind

    paths = ["/invoices/create", "/invoices/list", "/invoices/create", "/invoices/create"]
    assert [kind(path) for path in paths] == ["drop", "delay", "drop", None]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("drop", "object"),
        ({}, "kind"),
        ({"kind": "explode"}, "kind"),
        ({"kind": "drop", "color": "red"}, "no color"),
        ({"kind": "drop", "times": "1"}, "times has the wrong type"),
        ({"kind": "drop", "times": True}, "times has the wrong type"),
        ({"kind": "status", "status": 99}, "from 200"),
        ({"kind": "body", "content_type": "a\r\nb"}, "no header"),
        ({"kind": "delay", "seconds": -1}, "seconds are"),
    ],
)
def test_invalid_faults_are_refused(raw, problem):
    """A fault that cannot happen is refused with the reason."""
    with pytest.raises(ValueError, match=problem):
        Fault.from_json(raw)


def test_fault_without_a_status_is_500_only_for_the_kind_status():
    """A fault that names no status is a 500 if it is about the status, and else a 200."""
    assert Fault("status").http_status == 500
    assert Fault("body").http_status == 200
    assert Fault("body", status=403).http_status == 403
