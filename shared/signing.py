"""Signed internal calls: RFC 9421 over method, path, query, body digest and idempotency key.

A signature lives 60 s and carries a tag with its direction, so that a request cannot be turned around. Replay
protection is not a nonce store: the signed Idempotency-Key makes a replayed POST get the stored answer.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import timedelta

import http_message_signatures as hms
from pydantic import SecretStr

from shared.clock import Clock
from shared.problems import InternalSignatureInvalid

LIFETIME_S = 60
_ALWAYS = ("@method", "@path", "@query")
_KEY_HEADER = "idempotency-key"


@dataclass
class _Message:
    """The part of a request that is signed, in the form that the library reads."""

    method: str
    url: str
    headers: MutableMapping[str, str]


class _Keys(hms.HTTPSignatureKeyResolver):
    def __init__(self, keys: dict[str, bytes]) -> None:
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
        resolver = _Keys({key_id: secret.get_secret_value().encode() for key_id, secret in keys})
        self._signer = hms.HTTPMessageSigner(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=resolver)
        self._verifier = hms.HTTPMessageVerifier(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=resolver)

    def sign(self, method: str, url: str, headers: MutableMapping[str, str], body: bytes) -> None:
        """Add Signature-Input, Signature and (with a body) Content-Digest to `headers`."""
        covered = (*_ALWAYS, _KEY_HEADER) if _KEY_HEADER in headers else _ALWAYS
        now = self._clock.now()
        self._signer.sign(
            _Message(method, url, headers),
            key_id=self._first,
            created=now,
            expires=now + timedelta(seconds=LIFETIME_S),
            label="holdfast",
            tag=self._tag,
            covered_component_ids=covered,
            body=body or None,
        )

    def verify(self, method: str, url: str, headers: MutableMapping[str, str], body: bytes) -> str:
        """Return the id of the key that signed. Raises InternalSignatureInvalid (401) for every kind of wrong."""
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
