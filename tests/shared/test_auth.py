"""Who is calling: one algorithm and one purpose for each secret, and nothing a guest writes into a token counts."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from pydantic import SecretStr

from shared.auth import _REMEMBERED_MAX, _REMEMBERED_S, GUEST_ISSUER, Caller, TokenVerifier, _Remembered
from shared.problems import Forbidden, Unauthenticated
from shared.settings import SharedSettings

SECRET = "the-secret-of-the-identity-provider"
GUEST_SECRET = "the-secret-for-guests-and-nobody-else"
WRONG = "a-secret-that-somebody-made-up-at-home"


def verifier(**changed: Any) -> TokenVerifier:
    settings = SharedSettings(
        auth_jwt_secret=SecretStr(SECRET), internal_signing_keys=(("k", SecretStr("s")),), **changed
    )
    return TokenVerifier(settings, GUEST_SECRET)


def token(secret: str = SECRET, **claims: Any) -> str:
    now = datetime.now(UTC)
    given = {"sub": "ada", "iat": now, "exp": now + timedelta(hours=1)} | claims
    return jwt.encode({name: value for name, value in given.items() if value is not None}, secret, algorithm="HS256")


async def read(bearer: str, **settings: Any) -> Caller:
    return await verifier(**settings).caller(f"Bearer {bearer}")


def guest(secret: str = GUEST_SECRET, **claims: Any) -> str:
    return token(secret, **({"iss": GUEST_ISSUER, "sub": "guest:1"} | claims))


async def test_a_token_is_read_into_a_caller() -> None:
    """Subject, roles as a list, scopes as OAuth writes them."""
    caller = await read(token(roles=["operator"], scope="bookings:external other"))
    assert caller == Caller("ada", frozenset({"operator"}), frozenset({"bookings:external", "other"}))
    caller.require_role("operator", "viewer")
    caller.require_scope("other")


async def test_a_token_is_verified_once_while_it_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call with a token is not a second verification; another token, or one with another end, is."""
    verified, decode = list[str](), jwt.decode

    def counting(bearer: str, *args: Any, **kwargs: Any) -> Any:
        verified.append(bearer)
        return decode(bearer, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counting)
    doorkeeper, one, other = verifier(), token(sub="ada"), token(sub="bob")
    for bearer, subject in ((one, "ada"), (one, "ada"), (other, "bob"), (one, "ada")):
        assert (await doorkeeper.caller(f"Bearer {bearer}")).subject == subject
    assert verified == [one, other]
    with pytest.raises(Unauthenticated):
        await doorkeeper.caller(f"Bearer {one[:-4]}AAAA")


def test_what_is_remembered_ends() -> None:
    """Nobody is known for longer than their token is good, nor for longer than a minute, nor are there ever too many."""
    remembered, caller, now_s = _Remembered(), Caller("ada"), time.time()
    remembered.keep(b"over", caller, now_s - 1)
    remembered.keep(b"long", caller, now_s + 10_000)
    assert remembered.find(b"over") is None
    assert remembered.find(b"long") == caller
    assert remembered._callers[b"long"][1] <= time.time() + _REMEMBERED_S
    for number in range(2 * _REMEMBERED_MAX):
        remembered.keep(number.to_bytes(4), caller, now_s + 10)
    assert len(remembered._callers) <= _REMEMBERED_MAX
    assert remembered.find(b"long") is None


async def test_what_a_caller_may_not_do() -> None:
    """X02: a role or scope that is not there is 403."""
    caller = await read(token(roles=["viewer"], scope="a"))
    with pytest.raises(Forbidden):
        caller.require_role("operator")
    with pytest.raises(Forbidden):
        caller.require_scope("b")


async def test_a_guest_has_no_roles_whatever_the_token_says() -> None:
    """X02: roles and scope of a guest token are never looked at, even when its signature is good."""
    assert await read(guest(roles=["operator"], scope="bookings:external")) == Caller("guest:1")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer é", "Bearer x.y.z", "Bearer ..", "\x00"],
)
async def test_what_is_no_bearer_token(header: str | None) -> None:
    """401 for anything that is none."""
    with pytest.raises(Unauthenticated):
        await verifier().caller(header)


def _unsigned(algorithm: str) -> str:
    parts = [{"alg": algorithm, "typ": "JWT"}, {"sub": "ada", "exp": 4_000_000_000, "roles": ["operator"]}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@pytest.mark.parametrize(
    "forged",
    [
        token(WRONG),
        _unsigned("none"),
        _unsigned("None"),
        _unsigned("HS256"),
        jwt.encode({"sub": "ada", "exp": 4_000_000_000}, SECRET + "-made-longer-for-this-one", algorithm="HS384"),
        guest(SECRET),
        guest(WRONG),
        token(GUEST_SECRET),
        token(sub="guest:1"),
        token()[:-4] + "AAAA",
    ],
    ids=[
        "wrong secret",
        "none",
        "None",
        "no signature",
        "algorithm",
        "guest by idp",
        "guest",
        "idp by guest",
        "sub",
        "bit",
    ],
)
async def test_forged_tokens(forged: str) -> None:
    """X02: alg none, another algorithm, another secret, one secret used for the other purpose."""
    with pytest.raises(Unauthenticated):
        await read(forged)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": datetime.now(UTC) - timedelta(minutes=1)},
        {"exp": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 201},
        {"sub": "a\x00b"},
        {"sub": "a\ud800b"},
        {"nbf": datetime.now(UTC) + timedelta(hours=1)},
        {"exp": "soon"},
    ],
    ids=["expired", "endless", "nobody", "empty", "number", "long", "nul", "surrogate", "not yet", "exp"],
)
async def test_unusable_claims(claims: dict[str, Any]) -> None:
    """X02, V05: expired, endless or without a subject that can be stored."""
    with pytest.raises(Unauthenticated):
        await read(token(**claims))


@pytest.mark.parametrize("claims", [{"roles": 5}, {"roles": True}, {"scope": 1.5}], ids=repr)
async def test_claims_of_another_shape_are_no_bug_of_ours(claims: dict[str, Any]) -> None:
    """I26: an identity provider that writes nonsense gives nobody a role, and is no internal error."""
    try:
        caller = await read(token(**claims))
    except Unauthenticated:
        return
    assert not caller.roles
    assert not caller.scopes


@pytest.mark.parametrize("expired_s", [-30, 30])
async def test_a_guest_token_expires(expired_s: int) -> None:
    """A guest's token is believed until it expires."""
    bearer = guest(exp=datetime.now(UTC) - timedelta(seconds=expired_s))
    if expired_s > 0:
        with pytest.raises(Unauthenticated):
            await read(bearer)
    else:
        assert (await read(bearer)).subject == "guest:1"


async def test_issuer_and_audience_count_when_they_are_set() -> None:
    """Configured, they must match; not configured, a token may carry any."""
    settings = {"auth_jwt_issuer": "https://id.example", "auth_jwt_audience": "holdfast"}
    good: dict[str, Any] = {"iss": "https://id.example", "aud": ["other", "holdfast"]}
    assert (await read(token(**good), **settings)).subject == "ada"
    for change in ({"iss": "x"}, {"aud": "x"}, {"iss": None}, {"aud": None}):
        with pytest.raises(Unauthenticated):
            await read(token(**good | change), **settings)
    assert (await read(token(**good))).subject == "ada"


async def test_a_service_without_guests_has_none() -> None:
    """Without a guest secret, a guest's token is nobody's."""
    settings = SharedSettings(auth_jwt_secret=SecretStr(SECRET), internal_signing_keys=(("k", SecretStr("s")),))
    with pytest.raises(Unauthenticated):
        await TokenVerifier(settings).caller(f"Bearer {guest()}")
