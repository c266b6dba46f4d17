"""One HTTP request to Bitsby: sent with the API key, limited in time and size."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import requests

from oscar_bitsby import __version__
from oscar_bitsby.conf import Secret
from oscar_bitsby.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    GatewayError,
    RateLimited,
    Refused,
    ReplyNotUnderstood,
)
from oscar_bitsby.gateway.adapter import DeadlineAdapter
from oscar_bitsby.gateway.parsing import strip_unstorable

#: Larger answers are refused; a page of 50 invoices has about 40,000 bytes.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
USER_AGENT = f"django-oscar-bitsby/{__version__}"


@dataclass(frozen=True)
class Answer:
    """The ``data`` of a successful answer, with its status and its first characters for errors."""

    data: Any
    status: int
    excerpt: str


class Transport:
    """Post multipart forms to one API with one API key.

    Errors are raised outside of ``except`` blocks on purpose: the local variables in the frames of
    ``requests`` contain the header with the key. An error that kept these frames as its cause or
    context would take the key into error reports.

    Args:
        api_key, api_url: the account's API key, and the address of the API.
        timeout: seconds for one request, from sending it to the last byte of the answer.
    """

    def __init__(self, api_key: Secret, api_url: str, timeout: float) -> None:
        self._api_key = api_key
        self._api_url = api_url.rstrip("/")
        self._timeout = timeout
        self._adapter = DeadlineAdapter()
        self._session = requests.Session()
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        self._session.auth = self._add_token
        self._session.headers["User-Agent"] = USER_AGENT
        self._session.headers["Accept"] = "application/json"
        # A compressed answer could be much larger than the bytes that are sent.
        self._session.headers["Accept-Encoding"] = "identity"

    def __repr__(self) -> str:
        return f"<Transport to {self._api_url}>"

    def _add_token(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the API key to the request's header right before it is sent."""
        request.headers["Authorization"] = f"Token {self._api_key.reveal()}"
        return request

    def post(self, path: str, fields: Mapping[str, str]) -> Answer:
        """Post ``fields`` to ``path`` and return the answer if its result is ``success``.

        Raises:
            ConnectionFailed, RateLimited, Refused, ReplyNotUnderstood: see ``exceptions``.
            ConfigurationError: the key has characters that are not allowed in a header.
        """
        if not re.fullmatch(r"[!-~]+", self._api_key.reveal()):
            raise ConfigurationError("OSCAR_BITSBY['API_KEY'] has characters that no key has")
        # The error is raised here, where no variable holds the request or the answer.
        result = self._send(path, fields)
        if isinstance(result, BaseException):
            raise result
        return result

    def _send(self, path: str, fields: Mapping[str, str]) -> Answer | BaseException:
        try:
            status, body = self._exchange(path, fields)
        except BaseException as error:
            # No error may leave with the frames below: see the class.
            if not isinstance(error, Exception):
                # The process or this wait is being interrupted: go on with that.
                error.__context__ = error.__cause__ = None
                return error.with_traceback(None)
            problem = self._api_key.redact(f"{type(error).__name__}: {error}")[:300]
            return ConnectionFailed(f"{path}: no answer from {self._api_url} ({problem})")
        return self._unpack(path, status, body)

    def _exchange(self, path: str, fields: Mapping[str, str]) -> tuple[int, bytes]:
        # The timeout of requests limits each single read; a slow trickle would never time out.
        with (
            self._adapter.interrupted_after(self._timeout),
            self._session.post(
                self._api_url + path,
                # Files without a name make requests send a multipart form, as in all examples of
                # the documentation. Without fields it sends an empty body: a multipart form needs
                # at least one field, and only documented fields are sent.
                files={name: (None, value) for name, value in fields.items()},
                timeout=self._timeout,
                # A redirect would send the key to another address.
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            body = b""
            while chunk := response.raw.read(65536, decode_content=True):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise requests.exceptions.ContentDecodingError("the answer is too long")
            return response.status_code, body

    def _read(self, body: bytes) -> tuple[Any, str]:
        """Return the decoded JSON, or None if it is not JSON, and the answer's first characters.

        The key is redacted from both, because an answer may repeat the request.
        """
        # Redact first and cut then: the cut could leave a part of the key.
        excerpt = self._api_key.redact(body[:5000].decode("utf-8", "replace"))[:500]
        try:
            # NaN and Infinity are not valid JSON, and databases refuse them.
            decoded = json.loads(body, parse_float=Decimal, parse_constant=lambda _: None)
            reply = self._api_key.redact_json(decoded)
            if reply != decoded:
                # The JSON may contain the key with escapes.
                excerpt = json.dumps(reply, ensure_ascii=False, default=str)[:500]
        except (ValueError, ArithmeticError, RecursionError):
            reply = None
        return reply, excerpt

    def _unpack(self, path: str, status: int, body: bytes) -> Answer | GatewayError:
        reply, excerpt = self._read(body)
        details: dict[str, Any] = {"status": status, "body": excerpt}
        result = reply.get("result") if isinstance(reply, dict) else None
        if result == "success":
            return Answer(reply.get("data"), status, excerpt)
        if result == "error":
            text = strip_unstorable(str(reply.get("data")))[:300]
            if "too frequent" in text.lower():
                return RateLimited(f"{path}: {text}", **details)
            return Refused(f"{path}: {text}", **details)
        if status == 429:
            return RateLimited(f"{path}: HTTP 429", **details)
        if status in (502, 503, 504):
            # A proxy answered, not Bitsby.
            return ConnectionFailed(f"{path}: HTTP {status}", **details)
        if status in (401, 403):
            return Refused(f"{path}: HTTP {status}", **details)
        return ReplyNotUnderstood(f"{path}: HTTP {status}, not as documented", **details)
