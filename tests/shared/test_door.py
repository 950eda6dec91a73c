"""What the doors of both services share: who may come in, under which key, and how a list is paged."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import time
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from deploy.embedded.tokens import mint_token
from shared.auth import TokenVerifier
from shared.door import TheCaller, TheKey, TheOperator, ThePage, TheViewer, list_of
from shared.problems import install_problem_handlers
from shared.settings import SharedSettings

SECRET = "the-secret-of-the-identity-provider"


class Thing(BaseModel):
    id: UUID
    name: str = "thing"


THINGS = [Thing(id=UUID(int=n)) for n in range(1, 6)]


@dataclass
class Parts:
    tokens: TokenVerifier


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(docs_url=None, redoc_url=None)
    install_problem_handlers(app)
    settings = SharedSettings(auth_jwt_secret=SecretStr(SECRET), internal_signing_keys=(("k", SecretStr("s")),))
    app.state.parts = Parts(TokenVerifier(settings))

    @app.get("/me")
    async def me(caller: TheCaller) -> str:
        return caller.subject

    @app.get("/look")
    async def look(caller: TheViewer) -> str:
        return caller.subject

    @app.get("/act")
    async def act(caller: TheOperator, key: TheKey) -> str:
        return key

    @app.get("/things")
    async def things(page: ThePage) -> Any:
        rest = [thing for thing in THINGS if page.after is None or thing.id > page.after]
        return list_of(Thing, rest[: page.limit + 1], page.limit)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def bearer(*roles: str) -> dict[str, str]:
    return {"authorization": f"Bearer {mint_token(SECRET, sub='ada', now_s=time(), roles=roles)}"}


@pytest.mark.parametrize(
    ("path", "roles", "status"),
    [
        ("/me", None, 401),
        ("/me", (), 200),
        ("/look", None, 401),
        ("/look", (), 403),
        ("/look", ("viewer",), 200),
        ("/look", ("operator",), 200),
        ("/act", ("viewer",), 403),
        ("/act", ("operator",), 400),
    ],
)
async def test_who_may_come_in(http: httpx.AsyncClient, path: str, roles: tuple[str, ...] | None, status: int) -> None:
    """X02: nobody without a token, lookers with either role, doers as operators only, and those with a key."""
    assert (await http.get(path, headers=bearer(*roles) if roles is not None else {})).status_code == status


async def test_a_key_comes_with_the_call(http: httpx.AsyncClient) -> None:
    """V10: read in either spelling."""
    answer = await http.get("/act", headers=bearer("operator") | {"idempotency-key": '"k-1"'})
    assert answer.json() == "k-1"


async def test_a_list_is_walked_to_its_end(http: httpx.AsyncClient) -> None:
    """Pages of two of five things: each thing once, and the last page says that it is the last."""
    seen, cursor, pages = list[str](), "", 0
    while True:
        page = (await http.get(f"/things?limit=2{cursor}")).json()
        seen += [thing["id"] for thing in page["data"]]
        pages += 1
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        cursor = f"&starting_after={page['next_cursor']}"
    assert seen == [str(thing.id) for thing in THINGS]
    assert pages == 3


async def test_a_page_that_is_just_full_is_the_last(http: httpx.AsyncClient) -> None:
    """Five things on a page of five: no cursor to an empty page."""
    page = (await http.get("/things?limit=5")).json()
    assert (len(page["data"]), page["has_more"], page["next_cursor"]) == (5, False, None)
    empty = (await http.get(f"/things?starting_after={THINGS[-1].id}")).json()
    assert empty == {"data": [], "has_more": False, "next_cursor": None}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=two",
        "limit=1.5",
        "starting_after=x",
        "starting_after=0123456789abcdef0123456789abcdef",
    ],
)
async def test_a_page_has_a_form(http: httpx.AsyncClient, query: str) -> None:
    """V01: 422 with the place; what was sent is not repeated."""
    answer = await http.get(f"/things?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_FAILED")
    assert answer.json()["errors"][0]["in"] == "query"


def test_rows_become_views() -> None:
    """A list takes views, mappings and objects alike."""
    row = {"id": THINGS[0].id, "name": "row", "column": "of no view"}
    assert list_of(Thing, [row, THINGS[1]], 10).data == [Thing(id=THINGS[0].id, name="row"), THINGS[1]]
