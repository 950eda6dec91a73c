"""Signed internal calls: RFC 9421 over method, path, query, body digest and idempotency key.

A signature lives 60 s and carries a tag with its direction, so that a request cannot be turned around. Replay
protection is not a nonce store: the signed Idempotency-Key makes a replayed POST get the stored answer.

What our own calls look like is signed, and believed, right here: the standard's library takes longer for it than the
database for its part. Everything that is written in any other way, and every refusal, is left to the library.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta

import http_message_signatures as hms
from pydantic import SecretStr

from shared.clock import Clock
from shared.problems import InternalSignatureInvalid

LIFETIME_S = 60
_SKEW_S = 5  # as the library allows
_LABEL = "holdfast"
_ALWAYS = ("@method", "@path", "@query")
_KEY_HEADER = "idempotency-key"
_DIGEST_HEADER = "content-digest"
# Nothing in these is written in two ways, so there is nothing to normalise.
_PLAIN_ADDRESS = re.compile(r"https?://[\w.-]+(?::[0-9]+)?(?P<path>(?:/[\w~-]+)+)(?:\?(?P<query>[\w~=&-]*))?", re.ASCII)
_PLAIN_KEY = re.compile(r"[!-~]{1,255}")
_PLAIN_WORD = re.compile(r"[\w.-]+", re.ASCII)
_PLAIN_INPUT = re.compile(
    rf'{_LABEL}=(?P<params>\((?P<covered>[a-z@" -]+)\);created=(?P<created>[0-9]{{1,12}});keyid="(?P<keyid>[\w.-]+)"'
    r';alg="hmac-sha256";expires=(?P<expires>[0-9]{1,12});tag="(?P<tag>[\w.-]+)")',
    re.ASCII,
)


@dataclass
class _Message:
    """The part of a request that is signed, in the form that the library reads."""

    method: str
    url: str
    headers: MutableMapping[str, str]


class _Keys(hms.HTTPSignatureKeyResolver):
    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = keys

    def resolve_private_key(self, key_id: str) -> bytes:
        return self._keys[key_id]

    def resolve_public_key(self, key_id: str) -> bytes:
        if key_id not in self._keys:
            raise hms.InvalidSignature("unknown key")
        return self._keys[key_id]


class InternalSigner:
    """Signs with the first key, verifies with all of them: a new key is added everywhere before it comes first."""

    def __init__(self, keys: tuple[tuple[str, SecretStr], ...], *, tag: str, clock: Clock) -> None:
        self._first = keys[0][0]
        self._tag = tag
        self._clock = clock
        self._secrets = {key_id: secret.get_secret_value().encode() for key_id, secret in keys}
        self._is_plain = all(map(_PLAIN_WORD.fullmatch, (self._first, tag)))
        resolver = _Keys(self._secrets)
        self._signer = hms.HTTPMessageSigner(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=resolver)
        self._verifier = hms.HTTPMessageVerifier(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=resolver)

    def sign(self, method: str, url: str, headers: MutableMapping[str, str], body: bytes) -> None:
        """Add Signature-Input, Signature and (with a body) Content-Digest to `headers`."""
        digest = _digest(body) if body else None
        lines = _plain_lines(method, url, headers, digest)
        if lines is None or not self._is_plain:
            self._sign_by_the_book(_Message(method, url, headers), body)
            return
        created_s = int(self._clock.now().timestamp())
        params = (
            f'({_covered(lines)});created={created_s};keyid="{self._first}";alg="hmac-sha256"'
            f';expires={created_s + LIFETIME_S};tag="{self._tag}"'
        )
        if digest:
            headers["Content-Digest"] = digest
        headers["Signature-Input"] = f"{_LABEL}={params}"
        headers["Signature"] = _signature(self._secrets[self._first], lines, params)

    def _sign_by_the_book(self, message: _Message, body: bytes) -> None:
        covered = (*_ALWAYS, _KEY_HEADER) if _KEY_HEADER in message.headers else _ALWAYS
        now = self._clock.now()
        self._signer.sign(
            message,
            key_id=self._first,
            created=now,
            expires=now + timedelta(seconds=LIFETIME_S),
            label=_LABEL,
            tag=self._tag,
            covered_component_ids=covered,
            body=body or None,
        )

    def verify(self, method: str, url: str, headers: MutableMapping[str, str], body: bytes) -> str:
        """Return the id of the key that signed. Raises InternalSignatureInvalid (401) for every kind of wrong."""
        if key_id := self._signed_plainly_by(method, url, headers, body):
            return key_id
        required = (*_ALWAYS, _KEY_HEADER) if method == "POST" else _ALWAYS
        try:
            results = self._verifier.verify(
                _Message(method, url, headers),
                max_age=timedelta(seconds=LIFETIME_S),
                expect_tag=self._tag,
                require_components=required,
                body=body,
            )
            return str(results[0].parameters["keyid"])
        except Exception as error:
            # Whatever a forged header makes a parser do, the answer to it is the same.
            raise InternalSignatureInvalid from error

    def _signed_plainly_by(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the id of the key if this is to the letter what `sign` makes of the request; None proves nothing."""
        said = _PLAIN_INPUT.fullmatch(headers.get("signature-input", ""))
        digest = _digest(body) if body else None
        lines = _plain_lines(method, url, headers, digest)
        if said is None or lines is None or said["covered"] != _covered(lines):
            return None
        if headers.get(_DIGEST_HEADER) != digest or (method == "POST" and _KEY_HEADER not in lines):
            return None
        secret = self._secrets.get(said["keyid"])
        if secret is None or said["tag"] != self._tag or not self._is_fresh(int(said["created"]), int(said["expires"])):
            return None
        right = _signature(secret, lines, said["params"])
        return said["keyid"] if hmac.compare_digest(right.encode(), headers.get("signature", "").encode()) else None

    def _is_fresh(self, created_s: int, expires_s: int) -> bool:
        now_s = self._clock.now().timestamp()
        return created_s <= now_s + _SKEW_S and now_s - _SKEW_S <= min(expires_s, created_s + LIFETIME_S)


def _plain_lines(method: str, url: str, headers: Mapping[str, str], digest: str | None) -> dict[str, str] | None:
    """Return what is signed of a request, part by part; None when a part is not as plain as those of our calls."""
    address, key = _PLAIN_ADDRESS.fullmatch(url), headers.get(_KEY_HEADER)
    if address is None or method not in {"GET", "POST"} or (key is not None and not _PLAIN_KEY.fullmatch(key)):
        return None
    lines = dict(zip(_ALWAYS, (method, address["path"], f"?{address['query'] or ''}"), strict=True))
    if key is not None:
        lines[_KEY_HEADER] = key
    if digest is not None:
        lines[_DIGEST_HEADER] = digest
    return lines


def _covered(lines: Mapping[str, str]) -> str:
    return " ".join(f'"{name}"' for name in lines)


def _digest(body: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


def _signature(secret: bytes, lines: Mapping[str, str], params: str) -> str:
    """Return the Signature header over these lines and parameters (RFC 9421, section 2.5)."""
    base = "".join(f'"{name}": {value}\n' for name, value in lines.items()) + f'"@signature-params": {params}'
    return f"{_LABEL}=:{b64encode(hmac.digest(secret, base.encode(), 'sha256')).decode()}:"
