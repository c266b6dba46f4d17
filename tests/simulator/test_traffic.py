import pytest

from oscar_bitsby.simulator.traffic import Fault, Traffic


def admit(traffic: Traffic, arrived: float, authorized: bool = True) -> bool:
    return traffic.admit(arrived, "/invoices/list", {}, authorized)


def test_one_request_a_second_by_arrival():
    """A request is too early until a second after the last one that was accepted."""
    traffic = Traffic()
    assert admit(traffic, 100.0)
    assert not admit(traffic, 100.999)
    assert not admit(traffic, 99.0)
    assert admit(traffic, 101.0)
    assert not admit(traffic, 101.5)


def test_wrong_tokens_do_not_count_towards_the_limit():
    """A request with a wrong token is refused and delays no other request."""
    traffic = Traffic()
    assert not admit(traffic, 100.0, authorized=False)
    assert admit(traffic, 100.1)


def test_refused_requests_are_logged():
    """The log says of each request when it arrived and whether it was accepted."""
    traffic = Traffic()
    traffic.admit(1.0, "/invoices/list", {"limit": "5"}, True)
    traffic.admit(1.5, "/invoices/list", {}, True)
    assert traffic.requests() == [
        {"at": 1.0, "path": "/invoices/list", "accepted": True, "fields": {"limit": "5"}},
        {"at": 1.5, "path": "/invoices/list", "accepted": False, "fields": {}},
    ]


def test_faults_are_used_up_in_order():
    """Each fault happens as often as set, on its path or on all."""
    traffic = Traffic()
    traffic.set_faults(
        [
            Fault("drop", path="/invoices/create", times=2),
            Fault("delay"),
            Fault("body", times=0),
        ]
    )

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
