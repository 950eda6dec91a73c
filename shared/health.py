"""The three probes: alive (the loop turns), ready (may have traffic), started (schema and caches are in place)."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

Check = Callable[[], Awaitable[None]]


class Health:
    """What this process knows about itself. Readiness needs every `required` check; `optional` ones only degrade."""

    def __init__(self, required: Mapping[str, Check], optional: Mapping[str, Check]) -> None:
        self._required = required
        self._optional = optional
        self.started = False
        self.draining = False

    async def report(self) -> tuple[bool, dict[str, str]]:
        """Return whether this process may have traffic, and how each part is."""
        parts = {name: await _state(check, "down") for name, check in self._required.items()}
        ready = self.started and not self.draining and "down" not in parts.values()
        parts |= {name: await _state(check, "degraded") for name, check in self._optional.items()}
        return ready, parts


async def _state(check: Check, failed: str) -> str:
    try:
        await check()
    except Exception:  # noqa: BLE001  whatever is wrong with it, it is not well
        return failed
    return "ok"


def health_router(health: Health) -> APIRouter:
    """Return `/livez`, `/readyz` and `/startupz`; none of them is part of the public API description."""
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> Response:
        return JSONResponse({"status": "alive"})

    @router.get("/readyz")
    async def readyz() -> Response:
        ready, parts = await health.report()
        status = "draining" if health.draining else "ready" if ready else "not_ready"
        return JSONResponse({"status": status, "checks": parts}, 200 if ready else 503)

    @router.get("/startupz")
    async def startupz() -> Response:
        return JSONResponse({"status": "started" if health.started else "starting"}, 200 if health.started else 503)

    return router
