"""Breaks good requests: bytes of the body, headers, address, length, and signatures, before or after they were made."""

import random
from dataclasses import replace

from tests.fuzz.wire import Sent

_POISON = (
    b"\x00", b"\\u0000", b"\\ud800", b"NaN", b"1e400", b"-1", b"9" * 400, b"[" * 5000, b'{"a":' * 2000, b'"' + b"A" * 70_000,
    b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"true", b"1.0", b"{}", b"[]", b'"$(id)"', b"' OR 1=1 --", b"\r\n\r\n",
    "\u202e\U0001f3ab".encode(), b"4242424242424242",
)  # fmt: skip
_HEADERS = (
    (b"Idempotency-Key", b""), (b"Idempotency-Key", b"k" * 300), (b"Idempotency-Key", b"a b"), (b"Idempotency-Key", b"\xff"),
    (b"Authorization", b"Bearer"), (b"Authorization", b"Bearer x.y.z"), (b"Authorization", b"Basic \xff"),
    (b"Content-Type", b"text/plain"), (b"Content-Type", b"application/json; charset=utf-16"), (b"Content-Type", b""),
    (b"If-None-Match", b'"' * 100), (b"If-Match", b"W/\xff"), (b"Accept", b"\x01"), (b"X-Forwarded-For", b"1.2.3.4, \xff"),
    (b"Signature", b"sig=:!!:"), (b"Signature-Input", b'sig=();;"(('), (b"Stripe-Signature", b"t=,v1=\xe9"),
    (b"Stripe-Signature", b"t=99999999999999999999,v1=00"), (b"Content-Digest", b"sha-256=:x:"), (b"Expect", b"100-continue"),
    (b"Transfer-Encoding", b"chunked"), (b"X-Big", b"x" * 20_000), (b"traceparent", b"00-\xff"), (b"Last-Event-Id", b"\x00"),
)  # fmt: skip
_IDS = (b"%00", b"..%2f..%2f", b"%F0%9F%8E%AB", b"%ff", b"x" * 5000, b"'", b"%25", b"0", b"-", b"%0d%0a", b"*", b"\xff")


class Mutator:
    """Breaks requests in one of a few ways, the same ones for the same seed."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(number)

    def broken(self, request: Sent) -> Sent:
        """Return the request with one to three things wrong with it."""
        for _ in range(self._random.randint(1, 3)):
            request = self._random.choice((self._body, self._body, self._headers, self._target, self._length))(request)
        return request

    def body(self, body: bytes) -> bytes:
        """Return other bytes: some replaced, taken away, doubled, or a poisonous text put among them."""
        body = body or b"{}"
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(body) + 1)
            length = self._random.randint(0, 8)
            put = self._random.choice(
                (self._random.randbytes(length), b"", self._random.choice(_POISON), body[at : at + 3 * length])
            )
            body = (body[:at] + put + body[at + length :])[:200_000]
        return body

    def _body(self, request: Sent) -> Sent:
        return replace(request, body=self.body(request.body))

    def _headers(self, request: Sent) -> Sent:
        lines = list(request.headers)
        if lines and self._random.random() < 0.3:
            lines.pop(self._random.randrange(len(lines)))
        elif lines and self._random.random() < 0.3:
            name, value = lines.pop(self._random.randrange(len(lines)))
            at = self._random.randrange(len(value) + 1)
            lines.append((name, value[:at] + self._random.randbytes(2) + value[at + 2 :]))
        else:
            lines.append(self._random.choice(_HEADERS))
        return replace(request, headers=tuple(lines))

    def _target(self, request: Sent) -> Sent:
        path, _, query = request.target.partition(b"?")
        parts = path.split(b"/")
        if self._random.random() < 0.6:
            parts[self._random.randrange(1, len(parts))] = self._random.choice(_IDS)
        else:
            query += b"&limit=" + self._random.choice((b"0", b"101", b"x", b"9" * 40, b"%00", b"\xff"))
            query += b"&starting_after=" + self._random.choice(_IDS)
        return replace(request, target=b"/".join(parts) + (b"?" + query if query else b""))

    def _length(self, request: Sent) -> Sent:
        if self._random.random() < 0.5:
            return request  # a wrong length costs a connection, so they are rarer
        real = len(request.body)
        lie = self._random.choice((real + 7, max(real - 3, 0), 0, 10**12, 65_537))
        return replace(request, announced=self._random.choice((str(lie).encode(), b"-1", b"x", b"1e3")))
