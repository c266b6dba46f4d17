"""Invalid and forged webhook requests, each with the answers that it may get."""

# ruff: noqa: UP031
# The other kinds of formatting would need every brace of the JSON doubled.

import gzip
import io
import json
import random
import uuid
from dataclasses import dataclass, field

LIMIT = 64 * 1024
METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
STRANGE_METHODS = ("post", "POSTT", "P\xd6ST", "-", "POST POST")
TYPES = (
    "application/json", "application/json; charset=utf-8", "application/json; charset=utf-16",
    "application/json; charset=no-such-charset", "application/x-www-form-urlencoded",
    "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x",
    "multipart/form-data; boundary=" + "x" * 300, "multipart/mixed; boundary=\xff", "text/plain",
    "text/html; charset=\x7f", "image/png", "*/*", "", "x" * 3000, ";;;===",
)  # fmt: skip
SCALARS = (
    "null", "true", "false", "0", "-0", "-1", "1e400", "-1e400", "1e-400", "NaN", "Infinity",
    "-Infinity", "0.1", "9" * 30, "9" * 5000, "1E999999999999", "[]", "{}", '""', '"\\u0000"',
    '"\\ud800"', '"\\udfff\\ud800"', '"\xe4\u20ac\U0001f4b0"', '"' + "x" * 5000 + '"', '"paid"',
)  # fmt: skip
#: JSON with the id of an invoice where it does not belong.
MISPLACED_IDS = (
    '{"invoice":[{"id":"%s"}]}', '{"Invoice":{"id":"%s"}}', '{"invoice":{"ID":"%s"}}',
    '{"invoice":{"id":["%s"]}}', '{"invoice":{"id":"%s\\u0000"}}', '{"invoice":{"id":"%sx"}}',
    '{"invoice":{"id":"%s"}', '{"id":"%s"}', '{"invoice":"%s"}', '"%s"',
    '[{"invoice":{"id":"%s"}}]',
)  # fmt: skip
#: Parts of the environment that must make no difference: how often they are there, and values.
EXTRAS = (
    (0.7, "CONTENT_TYPE", TYPES),
    (0.2, "QUERY_STRING", ("id=1", "%", "&" * 500, "a=\xff", "token=x")),
    (0.2, "HTTP_COOKIE", ("sessionid=" + "x" * 500, ";;;=", "csrftoken=\xff", "a=b; a=b")),
    (0.05, "HTTP_COOKIE", ("django_language=zz",)),
    (0.1, "HTTP_CONTENT_ENCODING", ("gzip", "br", "deflate", "x")),
    (0.1, "HTTP_ACCEPT_LANGUAGE", ("de", "x" * 600, "*;q=9", "\xff")),
    (0.1, "HTTP_AUTHORIZATION", ("Basic x", "Token \x00", "")),
    (0.1, "HTTP_X_FORWARDED_FOR", ("x" * 900, "::1", "\x00")),
    (0.1, "REMOTE_ADDR", ("", "x" * 300, "::1", "unix:")),
    (0.1, "HTTP_X_HTTP_METHOD_OVERRIDE", ("DELETE",)),
)
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1")


@dataclass
class Delivery:
    """The particular part of a WSGI environment, and the statuses that it may get."""

    path: str
    allowed: set[int]
    kind: str
    body: bytes = b""
    method: str = "POST"
    environ: dict[str, object] = field(default_factory=dict)
    #: The ids that the body can be read to name. Only rows about these may be stored.
    names: set[uuid.UUID] = field(default_factory=set)

    def as_environ(self) -> dict[str, object]:
        """Return what a WSGI server would hand to Django."""
        found: dict[str, object] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            # As PEP 3333 demands: bytes decoded as latin-1.
            "PATH_INFO": self.path.encode("utf-8", "surrogateescape").decode("latin-1"),
            "QUERY_STRING": "",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(self.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        } | self.environ
        return {name: value for name, value in found.items() if value is not None}


class BrokenInput(io.BytesIO):
    """The body of a client that closes the connection while it is read."""

    def read(self, *args):
        raise OSError("the connection is broken")

    readline = read


class Deliveries:
    """Makes an endless, repeatable sequence of deliveries from a seed.

    Args:
        seed: the same seed makes the same sequence.
        open_ids: the ids of invoices that Bitsby does not call paid.
        paid_ids: the ids of settled invoices.
        token: the webhook's token, or an empty string.
    """

    def __init__(self, seed, open_ids, paid_ids, token=""):
        self.random = random.Random(seed)
        self.open, self.paid, self.token = list(open_ids), list(paid_ids), token
        self.webhook = f"/bitsby/webhook/{token}/" if token else "/bitsby/webhook/"
        self.makers = [
            (20, self.no_json),
            (18, self.json_without_id),
            (14, self.open_invoice),
            (10, self.paid_invoice),
            (10, self.unknown_invoice),
            (8, self.strange_encoding),
            (5, self.repeated_key),
            (5, self.other_method),
            (4, self.broken_length),
            (3, self.too_long),
            (2, self.nested),
            (2, self.broken_connection),
            (1, self.wrong_path),
            (1, self.strange_host),
        ]

    def __iter__(self):
        weights, makers = zip(*self.makers, strict=True)
        while True:
            (maker,) = self.random.choices(makers, weights)
            delivery = maker()
            self._decorate(delivery)
            yield delivery

    # What a body is made of

    def _scalar(self):
        return self.random.choice(SCALARS)

    def _value(self, depth=0):
        roll = self.random.random()
        if depth > 3 or roll < 0.5:
            return self._scalar()
        inner = [self._value(depth + 1) for _ in range(self.random.randrange(4))]
        if roll < 0.75:
            return f"[{','.join(inner)}]"
        keys = ("id", "invoice", "payment", "", "\\u0000", "__proto__", "id")
        return "{%s}" % ",".join(f'"{self.random.choice(keys)}":{one}' for one in inner)

    def _about(self, invoice_id, written=None):
        """Return a delivery in which only the id is valid."""
        names = ["wallet", "project", "payment", *(["x"] * self.random.randrange(3))]
        parts = [f'"{name}":{self._value()}' for name in names]
        claim = self.random.choice(('"paid"', '"unpaid"', self._scalar()))
        written = written or json.dumps(str(invoice_id))
        invoice = [f'"id":{written}', f'"status":{claim}', f'"amountFiat":{self._scalar()}']
        self.random.shuffle(invoice)
        parts.append('"invoice":{%s}' % ",".join(invoice))
        self.random.shuffle(parts)
        return "{%s}" % ",".join(parts)

    def _text(self, invoice_id, written=None):
        """Return the same without numbers that Python cannot read."""
        text = self._about(invoice_id, written).replace("9" * 5000, "9")
        return text.encode("utf-8", "surrogatepass")

    def _uuid_forms(self, one):
        unusual = one.hex[:16] + "-" + one.hex[16:]
        forms = (str(one), str(one).upper(), one.hex, f"{{{one}}}", f"urn:uuid:{one}", unusual)
        return self.random.choice(forms)

    # Kinds of requests

    def _post(self, kind, allowed, body, **values):
        values.setdefault("path", self.webhook)
        return Delivery(allowed=set(allowed), kind=kind, body=body, **values)

    def no_json(self):
        """Bytes of every kind, which name no invoice."""
        size = self.random.choice((0, 1, 2, 7, 100, 2000, 60_000))
        body = self.random.choice(
            (
                self.random.randbytes(size),
                bytes([self.random.randrange(256)]) * size,
                b"<html>" + b"x" * size,
                b"invoice[id]=" + str(self.random.choice(self.open)).encode(),
                b"\xef\xbb\xbf",
                b"\xff\xfe",
                b"\x00" * size,
                self._about(self.open[0]).encode("utf-8", "surrogatepass")[: size % 40],
                gzip.compress(self._text(self.open[0]), mtime=0),
                b'{"invoice":' + self.random.randbytes(20),
            )
        )
        return self._post("no JSON", {400}, body)

    def json_without_id(self):
        """JSON without a readable id where it belongs."""
        one = self.random.choice(self.open)
        value = self.random.choice(
            (
                self._value(),
                '{"invoice":%s}' % self._value(),
                '{"invoice":{"id":%s}}' % self._value(),
                '{"invoice":{"id":%d}}' % one.int,
                *(text % one for text in MISPLACED_IDS),
            )
        )
        return self._post("JSON without an id", {400}, value.encode("utf-8", "surrogatepass"))

    def open_invoice(self):
        """A forged or early delivery about an invoice that Bitsby does not call paid."""
        one = self.random.choice(self.open)
        body = self._text(one, json.dumps(self._uuid_forms(one)))
        return self._post("open invoice", {503}, body, names={one})

    def paid_invoice(self):
        one = self.random.choice(self.paid)
        return self._post("settled invoice", {200}, self._text(one))

    def unknown_invoice(self):
        one = uuid.UUID(int=self.random.getrandbits(128))
        near = uuid.UUID(int=self.random.choice(self.open).int ^ (1 << self.random.randrange(128)))
        return self._post("unknown invoice", {200}, self._text(self.random.choice((one, near))))

    def strange_encoding(self):
        """JSON that is not UTF-8. Python reads some of these encodings."""
        one = self.random.choice([*self.open, *self.paid])
        encoding = self.random.choice(ENCODINGS)
        body = self._about(one).replace("9" * 5000, "9")
        written = body.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
        cut = self.random.random() < 0.2
        if cut:
            written = written[: -self.random.randrange(1, 4)]
        allowed = {503 if one in self.open else 200}
        if cut or encoding == "latin-1":
            allowed |= {400}
        return self._post(f"encoding {encoding}", allowed, written, names={one})

    def repeated_key(self):
        """Keys that are given twice: the last one counts."""
        first, last = self.random.choice(self.open), self.random.choice(self.paid)
        if self.random.random() < 0.5:
            first, last = last, first
        inner = f'{{"invoice":{{"id":"{first}","id":"{last}"}}}}'
        outer = f'{{"invoice":{{"id":"{first}"}},"invoice":{{"id":"{last}"}}}}'
        allowed = {503 if last in self.open else 200}
        body = self.random.choice((inner, outer)).encode()
        return self._post("repeated key", allowed, body, names={last})

    def other_method(self):
        """Any method but POST, with any token."""
        method = self.random.choice(METHODS + STRANGE_METHODS)
        body = self._text(self.random.choice(self.open))
        path = self.random.choice((self.webhook, "/bitsby/webhook/some-token/"))
        # Django writes methods in capitals.
        allowed = {404 if "some" in path else 503} if method == "post" else {405}
        names = set(self.open) if method == "post" else set()
        return self._post("method", allowed, body, method=method, path=path, names=names)

    def broken_length(self):
        """A Content-Length that is missing, no number, negative or wrong."""
        one = self.random.choice(self.open)
        body = self._text(one)
        shorter, longer = self.random.randrange(len(body)), len(body) + 1000
        readable = [f" {len(body)} ", f"+{len(body)}"]
        invalid = [None, "", "many", "-1", "-" + "9" * 30, "1e3", "9" * 5000, "0x10", "5, 5"]
        invalid += map(str, (LIMIT + 1, 2**63, shorter))
        (readable if longer <= LIMIT else invalid).append(str(longer))
        length = self.random.choice(readable + invalid)
        allowed = {503} if length in readable else {400}
        environ = {"CONTENT_LENGTH": length}
        if length is None and self.random.random() < 0.7:
            environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return self._post("length", allowed, body, environ=environ, names={one})

    def too_long(self):
        """Bodies around the largest size; one of exactly that size is read."""
        one = self.random.choice(self.paid)
        text = b'{"invoice":{"id":"%s"},"x":"' % str(one).encode()
        size = self.random.choice((LIMIT - 1, LIMIT, LIMIT + 1, LIMIT * 2, LIMIT * 20))
        body = text + b"x" * (size - len(text) - 2) + b'"}'
        return self._post("size", {200} if size <= LIMIT else {400}, body)

    def nested(self):
        """Nesting that exceeds a recursive parser, or is no delivery."""
        depth = self.random.choice((50, 500, 900, 990, 1000, 5000, 9000, 60_000))
        opening = self.random.choice(("[", '{"a":', '{"invoice":', '{"invoice":{"id":'))
        body = (opening * depth)[: LIMIT - 2].encode()
        if self.random.random() < 0.5 and opening == "[":
            body = (b"[" * min(depth, LIMIT // 2)) + b"]" * min(depth, LIMIT // 2)
        return self._post("nested", {400}, body)

    def broken_connection(self):
        body = self._text(self.random.choice(self.open))
        environ = {"wsgi.input": BrokenInput(body)}
        return self._post("broken connection", {400}, body, environ=environ)

    def wrong_path(self):
        """Other tokens and other URLs: 404, or Django's redirect to the URL with a slash."""
        rubbish = self.random.choice(
            ("x", "..", "%2e%2e", "'", "ä", "\x00", "\udcff", "a" * 3000, "<b>", " ", "-", "None")
        )
        path = self.random.choice(
            (
                f"/bitsby/webhook/{rubbish}/",
                f"/bitsby/webhook/{self.token}x/",
                f"/bitsby/webhook/{self.token[:-1]}_/",
                f"/bitsby/webhook/{(self.token or 'a').upper()}/",
                f"/bitsby/webhook/{rubbish}",
                "/bitsby/webhook/" if self.token else "/bitsby/webhook/t/",
                f"{self.webhook}{rubbish}/",
                f"/{rubbish}{self.webhook}",
                f"/bitsby/{rubbish}/",
            )
        )
        body = self._text(self.random.choice(self.open))
        allowed = {404} if path.endswith("/") else {404, 301}
        return self._post("wrong path", allowed, body, path=path)

    def strange_host(self):
        """Django answers 400 for a host that is not allowed."""
        hosts = ("evil.example.com", "", "a b", "testserver:99999x", "\xff", "[::1")
        host = self.random.choice(hosts)
        body = self._text(self.random.choice(self.paid))
        environ = {"HTTP_HOST": host}
        # Without a name in the header, the server's name counts.
        return self._post("host", {400} if host else {200, 400}, body, environ=environ)

    # What any request may have in addition

    def _decorate(self, delivery):
        """Add headers that must make no difference."""
        roll, choose = self.random.random, self.random.choice
        extra = {name: choose(values) for share, name, values in EXTRAS if roll() < share}
        if roll() < 0.05:
            extra |= {f"HTTP_X_{number}": "\x00\xff" * 300 for number in range(60)}
        delivery.environ = extra | delivery.environ
