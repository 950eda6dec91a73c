"""The public keys of an identity provider (a JWKS), kept in memory: asked for in good time, and when an unknown one is named.

A provider that is away changes nothing: the keys that were known stay good, as everybody who verifies offline assumes.
"""

import asyncio

import httpx
import jwt
import structlog

from shared.clock import Clock
from shared.crashpoints import external_call
from shared.settings import SharedSettings

log = structlog.get_logger()

# Only keys that come in pairs: whoever can verify with one of these cannot sign with it.
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
_FETCH_S = 3.0
_DOCUMENT_LIMIT_BYTES = 256 * 1024
_ASK_AGAIN_S = 10.0


class SigningKeys:
    """The keys at one address. Key ids that somebody makes up cost the provider one question in ten seconds, no more."""

    def __init__(self, http: httpx.AsyncClient, url: str, clock: Clock, *, keep_s: float) -> None:
        self._http = http
        self._url = url
        self._clock = clock
        self._keep_s = keep_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at: float | None = None
        self._known_at = 0.0
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: SharedSettings, clock: Clock) -> "SigningKeys | None":
        """Return the keys of the provider that the settings name, if they do; nothing is asked yet."""
        if not settings.auth_jwks_url:
            return None
        http = httpx.AsyncClient(timeout=_FETCH_S, trust_env=False, follow_redirects=False)
        return cls(http, settings.auth_jwks_url, clock, keep_s=settings.auth_jwks_keep_seconds)

    async def close(self) -> None:
        await self._http.aclose()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key of this id, or None. An unknown one is asked for first; old ones are, while nobody waits."""
        if key_id not in self._keys:
            asking = self._ask()
            if asking is not None:
                await asyncio.shield(asking)  # a caller who leaves does not take the answer from the others
        elif self._clock.monotonic() - self._known_at > self._keep_s:
            self._ask()
        return self._keys.get(key_id)

    def _ask(self) -> "asyncio.Task[None] | None":
        """Ask once for all who want to know; not again within ten seconds."""
        now = self._clock.monotonic()
        if self._asking is None and (self._asked_at is None or now - self._asked_at >= _ASK_AGAIN_S):
            self._asked_at = now
            self._asking = asyncio.create_task(self._fetch())
            self._asking.add_done_callback(self._answered)
        return self._asking

    def _answered(self, _done: "asyncio.Task[None]") -> None:
        self._asking = None

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_S), external_call("fetch_signing_keys"):
                document = await self._read()
            keys = usable_keys(document)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            log.warning("signing_keys_unavailable", error=type(error).__name__)
            return
        self._keys = keys
        self._known_at = self._clock.monotonic()

    async def _read(self) -> bytes:
        """Read the document, as far as one may be long."""
        body = bytearray()
        async with self._http.stream("GET", self._url) as response:
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _DOCUMENT_LIMIT_BYTES:
                    raise ValueError("the document is too long")
        return bytes(body)


def usable_keys(document: bytes) -> dict[str, jwt.PyJWK]:
    """Return the keys that verify signatures, by id. Raises ValueError when the document has none."""
    try:
        keys = jwt.PyJWKSet.from_json(document.decode()).keys
    except (jwt.PyJWTError, AttributeError, RecursionError) as error:
        raise ValueError("not a key set") from error
    usable = {
        key.key_id: key
        for key in keys
        if key.key_id and key.algorithm_name in ALGORITHMS and key.public_key_use in {None, "sig"}
    }
    if not usable:
        raise ValueError("no key that could be used")
    return usable
