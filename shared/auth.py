"""Who is calling: bearer tokens are read here, once, into a Caller; what a caller may do is asked where it matters."""

import hashlib
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import jwt
import orjson
from jwt.algorithms import HMACAlgorithm

from shared.bodies import storable
from shared.problems import Forbidden, Unauthenticated
from shared.settings import SharedSettings
from shared.signing_keys import ALGORITHMS, SigningKeys

GUEST_ISSUER = "holdfast-guest"
BOUND_TO = "bound_to"  # the claim that names the one thing that a guest's token opens
Role = Literal["operator", "viewer"]
# Subjects that only this house gives out; no identity provider may.
_OURS = ("guest:", "key:")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# A guest makes several calls with one token. What a provider's key has signed is verified each time: it may be withdrawn.
_REMEMBERED_S = 60.0
_REMEMBERED_MAX = 8192


@dataclass(frozen=True)
class Caller:
    """The holder of a verified token. `subject` owns what was made with it.

    A token that is `bound_to` one thing opens that thing and nothing else, whoever owns it.
    """

    subject: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    reads: bool = True
    writes: bool = True
    bound_to: str | None = None

    def require_role(self, *any_of: Role) -> None:
        """Raise Forbidden (403) unless the caller has one of these roles."""
        if self.roles.isdisjoint(any_of):
            raise Forbidden

    def require_method(self, method: str) -> None:
        """Raise Forbidden (403) when this key may only read, or only write."""
        if not (self.reads if method in _SAFE else self.writes):
            raise Forbidden("The scopes of this key do not allow that.")

    def require_freedom(self) -> None:
        """Raise Forbidden (403) when this token was given out for one thing only."""
        if self.bound_to is not None:
            raise Forbidden("This token is good for one thing only.")

    def require_scope(self, scope: str) -> None:
        """Raise Forbidden (403) unless the token carries this scope."""
        if scope not in self.scopes:
            raise Forbidden(f"The scope {scope} is needed for that.")


class _Remembered:
    """Who was behind the tokens that were verified lately, by a digest of the token, which itself is kept nowhere."""

    def __init__(self) -> None:
        self._callers: dict[bytes, tuple[Caller, float]] = {}

    def find(self, digest: bytes) -> Caller | None:
        caller, until_s = self._callers.get(digest, (None, 0.0))
        return caller if time.time() < until_s else None

    def keep(self, digest: bytes, caller: Caller, expires_at_s: float) -> None:
        if len(self._callers) >= _REMEMBERED_MAX:  # the older half has to show its tokens again
            self._callers = dict(islice(self._callers.items(), _REMEMBERED_MAX // 2, None))
        self._callers[digest] = caller, min(expires_at_s, time.time() + _REMEMBERED_S)


class _KnownKey(HMACAlgorithm):
    """HMAC with a key that was looked at when the process began: the library would do so for each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()


def _hs256(secret: str) -> jwt.PyJWK | None:
    """Return a shared secret in the form that need not be looked at anew for each token."""
    if not secret:
        return None
    key = jwt.PyJWK({"kty": "oct", "alg": "HS256", "k": urlsafe_b64encode(secret.encode()).decode().rstrip("=")})
    key.Algorithm.prepare_key(key.key)
    key.Algorithm = _KnownKey(HMACAlgorithm.SHA256)
    return key


class TokenVerifier:
    """Verifies tokens; one algorithm and one purpose per secret or key, so that none can be confused.

    `keys` are those of an identity provider that signs with pairs; `api_keys` reads a token that is no JWT, if it can.
    """

    def __init__(
        self,
        settings: SharedSettings,
        guest_secret: str = "",
        *,
        keys: SigningKeys | None = None,
        api_keys: Callable[[str], Caller | None] | None = None,
    ) -> None:
        self._secret = _hs256(settings.auth_jwt_secret.get_secret_value())
        self._issuer = settings.auth_jwt_issuer or None
        self._audience = settings.auth_jwt_audience or None
        self._guest_secret = _hs256(guest_secret)
        self._leeway_s = settings.auth_jwt_leeway_s
        self._keys = keys
        self._api_keys = api_keys
        self._remembered = _Remembered()

    async def close(self) -> None:
        """Let go of the way to the identity provider."""
        if self._keys:
            await self._keys.close()

    async def caller(self, authorization: str | None) -> Caller:
        """Return who sent this Authorization header. Raises Unauthenticated (401)."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated
        try:
            return await self._read(token.strip())
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise Unauthenticated("The token is not valid, or no longer.") from error

    async def _read(self, token: str) -> Caller:
        if self._api_keys and (holder := self._api_keys(token)):
            return holder
        digest = hashlib.blake2b(token.encode(), digest_size=16).digest()
        known = self._remembered.find(digest)
        if known is not None:
            return known
        header, claims = _unverified(token)
        if self._guest_secret and claims.get("iss") == GUEST_ISSUER:
            caller, expires_at_s = self._guest(token, self._guest_secret)
        else:
            key, algorithm = await self._key_of(header)
            caller, expires_at_s = self._customer(token, key, algorithm)
            if key is not self._secret:
                return caller
        self._remembered.keep(digest, caller, expires_at_s)
        return caller

    def _guest(self, token: str, secret: jwt.PyJWK) -> tuple[Caller, float]:
        """Verify a token of ours; its roles and scopes are never looked at. Returns who it is, and until when (s)."""
        claims = jwt.decode(
            token, secret, algorithms=["HS256"], issuer=GUEST_ISSUER, options={"require": ["exp", "sub"]}
        )
        return Caller(subject=str(claims["sub"]), bound_to=claims.get(BOUND_TO)), claims["exp"]

    def _customer(self, token: str, key: jwt.PyJWK, algorithm: str) -> tuple[Caller, float]:
        """Verify a token of the identity provider. Returns who it is, and until when it may be remembered (s)."""
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self._issuer,
            audience=self._audience,
            options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            leeway=self._leeway_s,
        )
        subject = storable(str(claims["sub"]))
        if not subject or len(subject) > 200 or subject.startswith(_OURS):
            raise ValueError("unusable subject")
        caller = Caller(subject, roles=frozenset(_texts(claims, "roles")), scopes=frozenset(_texts(claims, "scope")))
        return caller, claims["exp"] + self._leeway_s

    async def _key_of(self, header: Mapping[str, Any]) -> tuple[jwt.PyJWK, str]:
        """Return what a token must be verified with: the shared secret, or the pair's public half that it names."""
        if header.get("alg") == "HS256" and self._secret:
            return self._secret, "HS256"
        key = await self._keys.find(str(header.get("kid", ""))) if self._keys else None
        if key is None or key.algorithm_name not in ALGORITHMS:
            raise ValueError("nothing to verify it with")
        return key, key.algorithm_name


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a token says of itself, to learn how it has to be verified. Raises ValueError."""
    header, claims, _signature = token.split(".")
    return _segment(header), _segment(claims)


def _segment(text: str) -> dict[str, Any]:
    read = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(read, dict):
        raise ValueError("no JWT")  # noqa: TRY004  like everything else that is wrong with a token
    return read


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """Read a claim that is a list, or (as OAuth writes scopes) one string with spaces."""
    value = claims.get(name) or []
    return value.split() if isinstance(value, str) else [str(item) for item in value]
