"""Availability as it changes: server-sent events, so that a page shows what is left without asking again and again."""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import orjson
from fastapi import APIRouter, Response
from starlette.types import Receive, Scope, Send

from reservation_service.api.dependencies import TheParts
from reservation_service.booking.availability import Listener, SlotState, SlotWatch
from reservation_service.errors import ExperienceNotFound, RateLimited
from shared.bodies import parse_id
from shared.problems import ServiceUnavailable, problem_responses

router = APIRouter(tags=["catalogue"], responses=problem_responses(RateLimited))

_HEARTBEAT = b": still here\n\n"
_FAREWELL_S = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_EVENT_STREAM = {
    "description": "`event: slot.updated`, data `{id, available, capacity, status, version}`: first the slots of the"
    " coming 92 days as they are, then each change. A comment comes every 15 seconds.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


class EventStream(Response):
    """Sends what a listener hears until the client goes, the listener is cut off, or the process wants to go."""

    media_type = "text/event-stream"

    def __init__(self, watch: SlotWatch, listener: Listener, *, heartbeat_s: float) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]  # nobody knows how long a stream will be
        self._watch = watch
        self._listener = listener
        self._heartbeat_s = heartbeat_s

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        telling = asyncio.create_task(self._tell(send))
        ends = (telling, asyncio.create_task(_until_gone(receive)), asyncio.create_task(self._listener.ended.wait()))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()  # it only ends by an error
        finally:
            self._watch.leave(self._listener)
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        with contextlib.suppress(TimeoutError):  # a client that reads nothing is not waited for
            async with asyncio.timeout(_FAREWELL_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Everybody comes back at a time of their own after a restart.
        text = f"retry: {random.randint(1000, 4000)}\n\n".encode() + _events(self._listener.snapshot)  # noqa: S311
        while True:
            await send({"type": "http.response.body", "body": text, "more_body": True})
            text = _events(await self._listener.news(self._heartbeat_s)) or _HEARTBEAT


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _events(states: Sequence[SlotState]) -> bytes:
    return b"".join(b"event: slot.updated\ndata: " + orjson.dumps(state, default=str) + b"\n\n" for state in states)


@router.get(
    "/v1/availability/stream",
    operation_id="streamAvailability",
    response_class=Response,
    responses=problem_responses(ExperienceNotFound, ServiceUnavailable) | {200: _EVENT_STREAM},
)
async def stream_availability(parts: TheParts, experience_id: str) -> Response:
    """Tell as server-sent events how many seats are free, as it changes; seats of lapsed holds become free by time."""
    wanted = parse_id(experience_id)
    if wanted is None:
        raise ExperienceNotFound
    listener = await parts.watch.join(wanted)
    return EventStream(parts.watch, listener, heartbeat_s=parts.settings.stream_heartbeat_s)
