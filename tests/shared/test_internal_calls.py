"""Both ends of an internal call: signed, or for as long as the flag is off with a shared secret, never anonymous."""

from dataclasses import dataclass

import httpx
import pytest
from pydantic import SecretStr

from shared.clock import SystemClock
from shared.internal_calls import InternalDoor, InternalSeal
from shared.problems import InternalSignatureInvalid
from shared.signing import InternalSigner

URL, BODY = "http://there/internal/v1/things?x=1", b'{"n":1}'
SECRET = "a-shared-secret"


@dataclass
class Flag:
    on: bool = True

    def __call__(self) -> bool:
        return self.on


def ends(
    *, here: bool = True, there: bool = True, ours: str = SECRET, theirs: str = SECRET
) -> tuple[InternalSeal, InternalDoor]:
    """Return the calling and the receiving end, each with its own flag and secret."""
    signer = InternalSigner((("k", SecretStr("key")),), tag="there", clock=SystemClock())
    seal = InternalSeal(signer, bearer=SecretStr(ours), signed=Flag(here))
    return seal, InternalDoor(signer, bearer=SecretStr(theirs), signed_only=Flag(there))


def call(seal: InternalSeal) -> httpx.Headers:
    headers = httpx.Headers({"idempotency-key": "k"})
    seal.put_on("POST", URL, headers, BODY)
    return headers


@pytest.mark.parametrize(("here", "there"), [(True, True), (True, False), (False, False)])
def test_the_ends_understand_each_other(here: bool, there: bool) -> None:
    """X14: signed calls are always let in; calls with the secret while the receiving end's flag is off."""
    seal, door = ends(here=here, there=there)
    headers = call(seal)
    assert ("authorization" in headers) == (not here)
    door.admit("POST", URL, headers, BODY)


def test_the_secret_opens_nothing_while_the_flag_is_on() -> None:
    """X03: a leaked secret is worth nothing while calls are signed."""
    seal, door = ends(here=False, there=True)
    with pytest.raises(InternalSignatureInvalid):
        door.admit("POST", URL, call(seal), BODY)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer x", f"Basic {SECRET}", f"Bearer {SECRET}x", "Bearer é"]
)
def test_a_wrong_secret_opens_nothing(authorization: str) -> None:
    """X05: nobody comes in without a signature and without the right secret."""
    _, door = ends(there=False)
    with pytest.raises(InternalSignatureInvalid):
        door.admit("POST", URL, {"authorization": authorization, "idempotency-key": "k"}, BODY)


def test_an_empty_secret_is_none() -> None:
    """X05: without a secret the caller signs whatever its flag says, and the door believes signatures only."""
    seal, door = ends(here=False, there=False, ours="", theirs="")
    headers = call(seal)
    assert "signature" in headers
    door.admit("POST", URL, headers, BODY)
    with pytest.raises(InternalSignatureInvalid):
        door.admit("POST", URL, {"authorization": "Bearer ", "idempotency-key": "k"}, BODY)
