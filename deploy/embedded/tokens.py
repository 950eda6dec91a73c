"""Bearer tokens for people at a terminal and for the demo: the same HS256 JWT that any identity provider could issue."""

from collections.abc import Sequence

import jwt

ROLES = ("operator", "viewer")


def mint_token(
    secret: str, *, sub: str, now_s: float, ttl_s: int = 3600, roles: Sequence[str] = (), scope: str = ""
) -> str:
    """Return a signed token for `sub`; `scope` is a space separated list, `now_s` seconds since 1970."""
    issued = int(now_s)
    claims: dict[str, object] = {"sub": sub, "iat": issued, "exp": issued + ttl_s, "roles": list(roles)}
    if scope:
        claims["scope"] = scope
    return jwt.encode(claims, secret, algorithm="HS256")
