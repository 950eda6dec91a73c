"""Who is calling: bearer tokens are read here, once, into a Caller; what a caller may do is asked where it matters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from shared.bodies import storable
from shared.problems import Forbidden, Unauthenticated
from shared.settings import SharedSettings

GUEST_ISSUER = "holdfast-guest"
Role = Literal["operator", "viewer"]


@dataclass(frozen=True)
class Caller:
    """The holder of a verified token. `subject` owns holds and reservations."""

    subject: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()

    def require_role(self, *any_of: Role) -> None:
        """Raise Forbidden (403) unless the caller has one of these roles."""
        if self.roles.isdisjoint(any_of):
            raise Forbidden

    def require_scope(self, scope: str) -> None:
        """Raise Forbidden (403) unless the token carries this scope."""
        if scope not in self.scopes:
            raise Forbidden(f"The scope {scope} is needed for that.")


class TokenVerifier:
    """Verifies HS256 tokens; one algorithm and one purpose per secret, so that neither can be confused."""

    def __init__(self, settings: SharedSettings, guest_secret: str = "") -> None:
        self._secret = settings.auth_jwt_secret.get_secret_value()
        self._issuer = settings.auth_jwt_issuer or None
        self._audience = settings.auth_jwt_audience or None
        self._guest_secret = guest_secret

    def caller(self, authorization: str | None) -> Caller:
        """Return who sent this Authorization header. Raises Unauthenticated (401)."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated
        try:
            return self._read(token.strip())
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise Unauthenticated("The token is not valid, or no longer.") from error

    def _read(self, token: str) -> Caller:
        if self._guest_secret and jwt.decode(token, options={"verify_signature": False}).get("iss") == GUEST_ISSUER:
            claims = jwt.decode(
                token,
                self._guest_secret,
                algorithms=["HS256"],
                issuer=GUEST_ISSUER,
                options={"require": ["exp", "sub"]},
            )
            return Caller(subject=str(claims["sub"]))  # roles and scopes of a guest token are never looked at
        claims = jwt.decode(
            token,
            self._secret,
            algorithms=["HS256"],
            issuer=self._issuer,
            audience=self._audience,
            options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            leeway=5,
        )
        subject = storable(str(claims["sub"]))
        if not subject or len(subject) > 200 or subject.startswith("guest:"):
            raise ValueError("unusable subject")
        return Caller(subject, roles=frozenset(_texts(claims, "roles")), scopes=frozenset(_texts(claims, "scope")))


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    """Read a claim that is a list, or (as OAuth writes scopes) one string with spaces."""
    value = claims.get(name) or []
    return value.split() if isinstance(value, str) else [str(item) for item in value]
