"""Responses of Bitsby that fail."""

import requests

from tests.support import bitsby


def failing_response(kind):
    """Return the response or exception of a kind, for ``FakeBitsby.on``."""
    return {
        "refused connection": requests.ConnectionError("refused"),
        "no answer": requests.ReadTimeout("too slow"),
        "no connection in time": requests.ConnectTimeout("too slow"),
        "too frequent": bitsby.error("Your requests are too frequent. Try in 1 second."),
        "said no": bitsby.error("Unknown project"),
        "wrong key": (401, {}, "{}"),
        "rate limit of a proxy": (429, {}, "slow down"),
        "server error": (500, {}, "<h1>Server Error</h1>"),
        "bad gateway": (502, {}, "<html>Bad Gateway</html>"),
        "blocked page": (200, {}, "<!DOCTYPE html><title>Blocked</title>"),
        "empty": (200, {}, ""),
        "broken JSON": (200, {}, '{"result": "succ'),
        "a list": (200, {}, "[]"),
        "no data": bitsby.success(None),
        "no page": bitsby.success({**bitsby.created(), "url": ""}),
        "no id": bitsby.success({**bitsby.created(), "id": "?"}),
        "redirect": (302, {"Location": "https://evil.example/"}, ""),
    }[kind]
