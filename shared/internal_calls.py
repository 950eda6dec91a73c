"""Both ends of a call between the services: signed, or under the flag with a shared secret, never anonymous."""

import secrets
from collections.abc import Callable, MutableMapping

from pydantic import SecretStr

from shared.problems import InternalSignatureInvalid
from shared.signing import InternalSigner


class InternalDoor:
    """The receiving end. Signatures are always accepted; the bearer secret only while this side's flag is off."""

    def __init__(self, signer: InternalSigner, *, bearer: SecretStr, signed_only: Callable[[], bool]) -> None:
        self._signer = signer
        self._bearer = bearer.get_secret_value()
        self._signed_only = signed_only

    def admit(self, method: str, url: str, headers: MutableMapping[str, str], body: bytes) -> None:
        """Return for a call of the other service. Raises InternalSignatureInvalid (401); an empty secret never opens."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self._bearer and scheme.lower() == "bearer" and not self._signed_only():
            if not secrets.compare_digest(token.encode(), self._bearer.encode()):
                raise InternalSignatureInvalid
            return
        self._signer.verify(method, url, headers, body)


class InternalSeal:
    """The calling end: puts a signature, or while the flag is off the bearer secret, on a request."""

    def __init__(self, signer: InternalSigner, *, bearer: SecretStr, signed: Callable[[], bool]) -> None:
        self._signer = signer
        self._bearer = bearer.get_secret_value()
        self._signed = signed

    def put_on(self, method: str, url: str, headers: MutableMapping[str, str], body: bytes) -> None:
        """Authenticate a request; without a secret to fall back on it is signed whatever the flag says."""
        if self._signed() or not self._bearer:
            self._signer.sign(method, url, headers, body)
        else:
            headers["authorization"] = f"Bearer {self._bearer}"
