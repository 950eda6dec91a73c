"""What the web costs without us: `python -m tests.bench.bare_apps PORT`, under the server settings of the services.

`/echo` is a FastAPI route with the very body model of POST /v1/holds that answers a constant; `/bare` is ASGI alone.
"""

import sys
from typing import Annotated, Any

import orjson
import uvicorn
from fastapi import FastAPI, Header, Response
from starlette.types import Receive, Scope, Send

from reservation_service.api.schemas import CreateHoldBody
from shared import heap
from shared.wire import ImpatientProtocol

_ANSWER = {"id": "01900000-0000-7000-8000-000000000000", "status": "held", "items": [{"quantity": 1}], "version": 1}
_BYTES = orjson.dumps(_ANSWER)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_BYTES)).encode())]

echo = FastAPI(docs_url=None, redoc_url=None)


@echo.post("/echo", status_code=201)
async def answer(body: CreateHoldBody, idempotency_key: Annotated[str, Header()]) -> Response:
    """Read a hold as the real route does, and say the same to everybody."""
    return Response(orjson.dumps(_ANSWER), 201, media_type="application/json")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `/bare` from here, and leave the rest to FastAPI."""
    if scope["type"] != "http" or scope["path"] != "/bare":
        await echo(scope, receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    start: dict[str, Any] = {"type": "http.response.start", "status": 201, "headers": _HEADERS}
    await send(start)
    await send({"type": "http.response.body", "body": _BYTES})


def main() -> None:
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    with heap.settled():
        uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
