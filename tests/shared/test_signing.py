"""An internal call is believed only whole, fresh, in its direction, and under a key that both sides know."""

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import http_message_signatures as hms
import httpx
import pytest
from pydantic import SecretStr

from shared import signing
from shared.clock import SystemClock
from shared.problems import InternalSignatureInvalid
from shared.signing import LIFETIME_S, InternalSigner
from tests.figures import tell
from tests.scenarios import fired
from tests.shared.conftest import StoppedClock

OLD, NEW = ("old", SecretStr("old-secret")), ("new", SecretStr("new-secret"))
THERE, BACK = "there", "back"
URL = "http://127.0.0.1:8001/internal/v1/payments/7/capture?why=because"
BODY = b'{"amount":4500}'


@dataclass(frozen=True)
class Sent:
    """A request as it arrives."""

    method: str = "POST"
    url: str = URL
    body: bytes = BODY
    headers: Any = None

    def believed_by(self, verifier: InternalSigner) -> str:
        return verifier.verify(self.method, self.url, self.headers, self.body)


def signer(*keys: tuple[str, SecretStr], tag: str = THERE, clock: Any = None) -> InternalSigner:
    return InternalSigner(keys or (OLD,), tag=tag, clock=clock or SystemClock())


def sent(by: InternalSigner | None = None, **request: Any) -> Sent:
    """Return a signed request."""
    plain = Sent(**request)
    headers = httpx.Headers({"content-type": "application/json", "idempotency-key": "key-1"})
    (by or signer()).sign(plain.method, plain.url, headers, plain.body)
    return replace(plain, headers=headers)


def test_a_whole_request_is_believed() -> None:
    """The id of the key that signed comes back; POST with and without a body, and GET."""
    assert sent().believed_by(signer()) == "old"
    assert sent(body=b"").believed_by(signer()) == "old"
    assert sent(method="GET", body=b"").believed_by(signer()) == "old"
    plain = {name.lower(): value for name, value in sent().headers.items()}
    assert replace(sent(), headers=plain).believed_by(signer()) == "old"


@pytest.mark.parametrize(
    "change",
    [
        {"body": b'{"amount":4501}'},
        {"body": b""},
        {"url": URL.replace("/7/", "/8/")},
        {"url": URL.replace("because", "not")},
        {"url": URL.partition("?")[0]},
        {"url": URL + "&more=1"},
        {"method": "PUT"},
        {"method": "GET"},
    ],
    ids=["body", "no body", "path", "query", "query gone", "query grown", "method", "method to GET"],
)
def test_what_is_changed_on_the_way_is_refused(change: dict[str, Any]) -> None:
    """X03: every part that means something is covered."""
    with pytest.raises(InternalSignatureInvalid):
        replace(sent(), **change).believed_by(signer())


@pytest.mark.parametrize("header", ["idempotency-key", "content-digest", "signature", "signature-input"])
@pytest.mark.parametrize("how", ["gone", "changed", "empty", "garbage"])
def test_a_header_that_is_tampered_with_is_refused(header: str, how: str) -> None:
    """X03: the key is the nonce, the digest stands for the body; without them, or with others, nothing is believed."""
    request = sent()
    if how == "gone":
        del request.headers[header]
    elif how == "changed":
        request.headers[header] = request.headers[header].replace("1", "2").replace("a", "b").replace("A", "B")
    else:
        request.headers[header] = "" if how == "empty" else 'sig=:!!:;"(('
    with pytest.raises(InternalSignatureInvalid):
        request.believed_by(signer())


def test_a_body_cannot_be_slipped_under_a_signature_without_one() -> None:
    """X03: a request that was signed empty stays empty, whatever digest comes along."""
    empty = sent(body=b"")
    with pytest.raises(InternalSignatureInvalid):
        replace(empty, body=BODY).believed_by(signer())
    empty.headers["content-digest"] = sent().headers["content-digest"]
    with pytest.raises(InternalSignatureInvalid):
        replace(empty, body=BODY).believed_by(signer())


def test_a_post_without_its_key_is_refused() -> None:
    """X03: a POST whose signature leaves the idempotency key out could be played again under another one."""
    headers = httpx.Headers({"content-type": "application/json"})
    signer().sign("POST", URL, headers, BODY)
    with pytest.raises(InternalSignatureInvalid):
        Sent(headers=headers).believed_by(signer())
    headers["idempotency-key"] = "slipped-in"
    with pytest.raises(InternalSignatureInvalid):
        Sent(headers=headers).believed_by(signer())


def test_nothing_unsigned_is_believed() -> None:
    """X05: no signature, no entry."""
    with pytest.raises(InternalSignatureInvalid):
        Sent(headers=httpx.Headers({"idempotency-key": "k"})).believed_by(signer())


def test_a_request_cannot_be_turned_around() -> None:
    """X03: what was signed for one direction is refused in the other, under the same keys."""
    with pytest.raises(InternalSignatureInvalid):
        sent().believed_by(signer(tag=BACK))


def test_unknown_keys_and_wrong_secrets() -> None:
    """X03: another key id, or the same id with another secret."""
    with pytest.raises(InternalSignatureInvalid):
        sent(signer(NEW)).believed_by(signer(OLD))
    with pytest.raises(InternalSignatureInvalid):
        sent(signer(("old", SecretStr("guessed")))).believed_by(signer(OLD))


def test_keys_are_rotated_without_a_gap() -> None:
    """X04: the first key signs, all verify: add everywhere, put first, then take the old one away."""
    before, during, after = signer(OLD), signer(OLD, NEW), signer(NEW, OLD)
    assert sent(before).believed_by(during) == "old"
    assert sent(during).believed_by(after) == "old"
    assert sent(after).believed_by(during) == "new"
    with pytest.raises(InternalSignatureInvalid):
        sent(during).believed_by(signer(NEW))


@pytest.mark.parametrize("off_s", [-10 * LIFETIME_S, -LIFETIME_S - 30, LIFETIME_S + 30, 10 * LIFETIME_S])
def test_only_a_fresh_signature_is_believed(off_s: float) -> None:
    """X03, T05: signed too long ago, or by a clock that is far ahead."""
    clock = StoppedClock(datetime.now(UTC) + timedelta(seconds=off_s))
    with pytest.raises(InternalSignatureInvalid):
        sent(signer(clock=clock)).believed_by(signer())
    fired("T05", 1)


def test_it_is_the_standard_s_signature() -> None:
    """RFC 9421: the library by itself verifies what we send, and finds our parameters in it."""

    class Keys(hms.HTTPSignatureKeyResolver):
        def resolve_public_key(self, key_id: str) -> bytes:
            assert key_id == "old"
            return b"old-secret"

    verifier = hms.HTTPMessageVerifier(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=Keys())
    (result,) = verifier.verify(sent(), expect_tag=THERE, max_age=timedelta(seconds=LIFETIME_S), body=BODY)
    covered = {component.strip('"') for component in result.covered_components}
    assert covered >= {"@method", "@path", "@query", "idempotency-key", "content-digest"}
    assert int(result.parameters["expires"]) - int(result.parameters["created"]) == LIFETIME_S
    assert result.parameters["tag"] == THERE


class _Keys(hms.HTTPSignatureKeyResolver):
    def resolve_private_key(self, _key_id: str) -> bytes:
        return b"old-secret"

    resolve_public_key = resolve_private_key


def by_the_library(request: Sent) -> bool:
    """Tell whether the library, asked as strictly as we are, believes a request."""
    verifier = hms.HTTPMessageVerifier(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=_Keys())
    required = ("@method", "@path", "@query", *(["idempotency-key"] if request.method == "POST" else []))
    try:
        verifier.verify(
            request,
            expect_tag=THERE,
            max_age=timedelta(seconds=LIFETIME_S),
            require_components=required,
            body=request.body,
        )
    except Exception:  # noqa: BLE001  a refusal is a refusal
        return False
    return True


_ADDRESSES = (
    "/internal/v1/payments", "/internal/v1/payments/7-a/capture", "/", "", "/a//b", "/a/../b", "/a%2Fb", "/ä", "/a.b",
    "/internal/v1/payments?", "/a?b=c&d", "/a?b=%20", "/a?b=c#d", "/a b", "/a?b?c",
)  # fmt: skip
_ODD_KEYS = ("k", "a:b", '"quoted"', "with space", " padded ", "tab\tbed", "", "x" * 300)


def test_what_is_signed_here_is_what_the_library_would_sign() -> None:
    """Whatever address, key and body: signed by us, the library believes it, and the other way round; or it is no request."""
    plain = 0
    for path, key, body, method in itertools.product(_ADDRESSES, _ODD_KEYS, (b"", BODY), ("GET", "POST")):
        url = f"http://127.0.0.1:8001{path}"
        headers = httpx.Headers({"idempotency-key": key}) if method == "POST" else httpx.Headers()
        try:
            signer().sign(method, url, headers, body)
        except hms.HTTPMessageSignaturesException:
            continue
        ours = Sent(method, url, body, headers)
        theirs = replace(ours, headers=httpx.Headers({"idempotency-key": key} if method == "POST" else {}))
        signer()._sign_by_the_book(signing._Message(method, url, theirs.headers), body)
        assert by_the_library(ours), (method, url, key)
        assert by_the_library(theirs) == (theirs.believed_by(signer()) == "old")
        plain += bool(signer()._signed_plainly_by(method, url, theirs.headers, body))
    tell(f"signatures made by the library and believed without it: {plain}")
    assert plain > 20


def test_nothing_is_believed_that_the_library_refuses() -> None:
    """X03: signed requests with some bytes of any part changed, taken out or put in: ours says yes only where both do."""
    dice, believed, tampered = Random(9421), 0, 0
    for _ in range(600):
        request = sent(url="http://127.0.0.1:8001/internal/v1/payments?a=b", body=dice.choice((b"", BODY)))
        headers = dict(request.headers)
        name = dice.choice(sorted(headers))
        at, cut = dice.randrange(len(headers[name]) + 1), dice.randrange(3)
        put = "".join(dice.choice('0123456789abAB=:;"() ,\\') for _ in range(dice.randrange(3)))
        headers[name] = headers[name][:at] + put + headers[name][at + cut :]
        changed = replace(request, headers=headers, url=dice.choice((request.url, f"{request.url}&c", URL)))
        if signer()._signed_plainly_by(changed.method, changed.url, headers, changed.body):
            believed += 1
            assert by_the_library(changed), headers
        tampered += headers != dict(request.headers)
    tell(f"signed requests tampered with: {tampered} of 600, believed as they were {believed}")
    assert tampered > 400
    assert believed > 20
