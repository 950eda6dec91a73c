"""Tokens of an identity provider that signs with key pairs: its keys are kept, renewed, and never mistaken for a secret."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr, ValidationError

from shared.auth import Caller, TokenVerifier
from shared.problems import Unauthenticated
from shared.settings import SharedSettings
from shared.signing_keys import SigningKeys, usable_keys
from tests.shared.conftest import StoppedClock

SECRET = "the-secret-that-was-used-before-there-were-pairs"


class Provider:
    """An identity provider: its pairs by key id, what it publishes, and how often it was asked."""

    def __init__(self, clock: StoppedClock) -> None:
        self.pairs = {"one": rsa.generate_private_key(65537, 2048)}
        self.published = ["one"]
        self.asked = 0
        self.trouble: httpx.Response | Exception | None = None
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.keys = SigningKeys(http, "http://id.example/jwks", clock, keep_s=300)
        settings = SharedSettings(
            auth_jwt_secret=SecretStr(SECRET),
            auth_jwks_url="http://id.example/jwks",
            auth_jwt_issuer="https://id.example",
            auth_jwt_audience="holdfast",
            internal_signing_keys=(("k", SecretStr("s")),),
        )
        self.verifier = TokenVerifier(settings, keys=self.keys)

    async def _answer(self, _request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if self.trouble is not None:
            return self.trouble
        return httpx.Response(200, json={"keys": [self.public(key_id) for key_id in self.published]})

    def public(self, key_id: str) -> dict[str, Any]:
        pair = self.pairs[key_id]
        kind = jwt.algorithms.RSAAlgorithm if isinstance(pair, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
        return json.loads(kind.to_jwk(pair.public_key())) | {"kid": key_id, "use": "sig"}  # type: ignore[arg-type]

    def token(self, key_id: str = "one", *, algorithm: str = "RS256", **claims: Any) -> str:
        given = {"sub": "ada", "iss": "https://id.example", "aud": "holdfast", "exp": _in_s(60)} | claims
        return jwt.encode(given, self.pairs[key_id], algorithm=algorithm, headers={"kid": key_id})

    async def read(self, token: str) -> Caller:
        return await self.verifier.caller(f"Bearer {token}")


def _in_s(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
def provider(clock: StoppedClock) -> Provider:
    return Provider(clock)


async def test_a_token_of_a_pair_is_read(provider: Provider) -> None:
    """RSA and elliptic curves, roles and scopes as ever; a hundred tokens at once ask the provider one question."""
    provider.pairs["curve"] = ec.generate_private_key(ec.SECP256R1())  # type: ignore[assignment]
    provider.published.append("curve")
    tokens = [provider.token(roles=["operator"]), provider.token("curve", algorithm="ES256")] * 50
    callers = await asyncio.gather(*map(provider.read, tokens))
    assert callers[0] == Caller("ada", frozenset({"operator"}))
    assert {caller.subject for caller in callers} == {"ada"}
    assert provider.asked == 1


async def test_a_new_pair_is_found_at_once(provider: Provider, clock: StoppedClock) -> None:
    """The provider rotates: the first token of the new pair is read, and the old pair ends when it is published no more."""
    await provider.read(provider.token())
    clock.pass_by(11)
    provider.pairs["two"] = rsa.generate_private_key(65537, 2048)
    provider.published = ["two"]
    assert (await provider.read(provider.token("two"))).subject == "ada"
    with pytest.raises(Unauthenticated):
        await provider.read(provider.token("one"))


async def test_a_withdrawn_key_is_not_believed_for_long(provider: Provider, clock: StoppedClock) -> None:
    """After five minutes the keys are asked for again, while nobody waits; what is gone then is refused."""
    await provider.read(provider.token())
    provider.published, provider.pairs["two"] = ["two"], rsa.generate_private_key(65537, 2048)
    assert (await provider.read(provider.token())).subject == "ada"
    clock.pass_by(301)
    await provider.read(provider.token())
    await asyncio.sleep(0.01)
    with pytest.raises(Unauthenticated):
        await provider.read(provider.token())


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("away"),
        httpx.Response(500),
        httpx.Response(302, headers={"location": "http://elsewhere.example/"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"keys": []}),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(200, content=b" " * 300_000),
    ],
    ids=["away", "500", "elsewhere", "html", "list", "none", "nesting", "huge"],
)
async def test_a_provider_in_trouble_changes_nothing(
    provider: Provider, clock: StoppedClock, trouble: httpx.Response | Exception
) -> None:
    """Known keys stay good, unknown ones stay unknown, nothing is an internal error, and nobody is sent elsewhere."""
    await provider.read(provider.token())
    provider.trouble = trouble
    clock.pass_by(301)
    assert (await provider.read(provider.token())).subject == "ada"
    await asyncio.sleep(0.01)
    assert (await provider.read(provider.token())).subject == "ada"
    provider.pairs["two"] = rsa.generate_private_key(65537, 2048)
    with pytest.raises(Unauthenticated):
        await provider.read(provider.token("two"))
    assert provider.asked == 2


async def test_made_up_key_ids_do_not_storm_the_provider(provider: Provider) -> None:
    """X02: two hundred tokens that name keys which are none cost one question."""
    await provider.read(provider.token())
    provider.pairs["forged"] = rsa.generate_private_key(65537, 2048)
    for n in range(200):
        token = jwt.encode({"sub": "a"}, SECRET, algorithm="HS256", headers={"kid": f"k{n}", "alg": "HS256"})
        with pytest.raises(Unauthenticated):
            await provider.read(token)
        with pytest.raises(Unauthenticated):
            await provider.read(provider.token("forged"))
    assert provider.asked <= 2


async def test_a_public_key_is_no_secret(provider: Provider) -> None:
    """X02: a token that is signed with the public key as if it were the shared secret is refused; so is `none`."""
    public = provider.pairs["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode())
    claims = {"sub": "ada", "iss": "https://id.example", "aud": "holdfast", "exp": int(_in_s(60).timestamp())}
    body = jwt.utils.base64url_encode(json.dumps(claims).encode())
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    forged = b".".join((head, body, jwt.utils.base64url_encode(algorithm.sign(head + b"." + body, public))))
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": "one"})
    for token in (forged.decode(), unsigned):
        with pytest.raises(Unauthenticated):
            await provider.read(token)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"},
        {"aud": "other"},
        {"exp": _in_s(-60)},
        {"exp": None},
        {"sub": "key:1"},
        {"sub": "guest:1"},
    ],
    ids=["issuer", "audience", "expired", "endless", "a key", "a guest"],
)
async def test_claims_count_whoever_signed(provider: Provider, claims: dict[str, Any]) -> None:
    """X02: issuer, audience and expiry, and nobody's provider gives out subjects that are ours alone."""
    given = {name: value for name, value in claims.items() if value is not None}
    token = provider.token(**given)
    if claims.get("exp", 1) is None:
        token = jwt.encode({"sub": "ada"}, provider.pairs["one"], algorithm="RS256", headers={"kid": "one"})
    with pytest.raises(Unauthenticated):
        await provider.read(token)


async def test_secret_and_pairs_beside_each_other(provider: Provider) -> None:
    """While a shop moves from one to the other, both are good."""
    claims = {"sub": "ada", "iss": "https://id.example", "aud": "holdfast", "exp": _in_s(60)}
    assert (await provider.read(jwt.encode(claims, SECRET, algorithm="HS256"))).subject == "ada"
    assert (await provider.read(provider.token())).subject == "ada"


@pytest.mark.parametrize(("off_s", "good"), [(-3, True), (-8, False)])
async def test_clocks_may_differ_a_little(provider: Provider, off_s: float, good: bool) -> None:
    """T05: three seconds after its end a token is still taken, eight seconds after it is not."""
    token = provider.token(exp=_in_s(off_s))
    if good:
        assert (await provider.read(token)).subject == "ada"
    else:
        with pytest.raises(Unauthenticated):
            await provider.read(token)


def test_somebody_must_sign_tokens() -> None:
    """Neither a secret nor an address: the service says which variable is missing, and does not start."""
    with pytest.raises(ValidationError, match="AUTH_JWT_SECRET"):
        SharedSettings(internal_signing_keys=(("k", SecretStr("s")),))


def test_shared_secrets_are_no_keys_of_a_provider() -> None:
    """A key set that publishes a symmetric key publishes a secret; such a key verifies nothing here."""
    with pytest.raises(ValueError, match="no key"):
        usable_keys(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}).encode())
