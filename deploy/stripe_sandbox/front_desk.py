"""The one path that each call of the API walks: who is it, faults, limit, parameters, key, operation, journal, answer.

What the operation changed, its events, their deliveries, the answer under the Idempotency-Key and the journal line are
one transaction, and the answer leaves only after it. So a sandbox that is killed has either done all of it or nothing.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from . import idempotency, journal, timers
from .credentials import caller, secret_key_required
from .droppable import Dropped
from .errors import ApiError, rate_limited, server_error
from .expanding import expand
from .faults import Fault, first
from .operations import Operation
from .parameters import Fields, Params, decode
from .payment_intents import as_publishable
from .sandbox import Sandbox
from .settings import API_VERSION
from .state import Document, public
from .turn import Turn

_log = logging.getLogger(__name__)
_BODY_MAX_BYTES = 256 * 1024
_WEBHOOK_FIRST_AT_MOST_S = 5.0


@dataclass(slots=True)
class Call:
    """One request, as it came in."""

    operation: Operation
    request: Request
    target: str
    encoded: str  # the form, from the body or the query
    request_id: str
    key: str | None
    received_at: float
    key_was_in_use: bool = False
    publishable: bool = False
    params: Params = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"{self.request.method} {self.request.url.path}"


@dataclass(slots=True)
class Answer:
    """What goes back; `stored` says whether the call's Idempotency-Key will replay it."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    stored: bool = True
    code: str | None = None
    original_request: str | None = None
    deliveries: list[int] = field(default_factory=list)

    @property
    def replayed(self) -> bool:
        return self.original_request is not None


class FrontDesk:
    """Answers calls of the API, one transaction each."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def answer(self, operation: Operation, request: Request) -> Response:
        """Answer one call, or misbehave as the fault plan says."""
        call = await self._received(operation, request)
        faults = self._sandbox.plan.on_call(operation.name)
        in_use = self._sandbox.keys_in_use
        call.key_was_in_use = call.key in in_use
        if call.key and not call.key_was_in_use:
            in_use.add(call.key)
        try:
            return await self._answer(call, faults)
        finally:
            if call.key and not call.key_was_in_use:
                in_use.discard(call.key)

    async def _received(self, operation: Operation, request: Request) -> Call:
        encoded = request.url.query
        if request.method == "POST":
            body = await request.body()
            encoded = body.decode("utf-8", "replace") if len(body) <= _BODY_MAX_BYTES else "too long"
        return Call(
            operation=operation,
            request=request,
            target=request.path_params.get("id", ""),
            encoded=encoded,
            request_id=self._sandbox.identifiers.new("req"),
            key=(request.headers.get("idempotency-key") or None) if request.method == "POST" else None,
            received_at=self._sandbox.clock.wall(),
        )

    async def _answer(self, call: Call, faults: list[Fault]) -> Response:
        await _pause(faults, "delay_before")
        if first(faults, "drop_before"):
            self._record(call, faults, None)
            return Dropped()
        try:
            with self._sandbox.state.transaction():
                answer = self._decided(call, faults)
                self._record(call, faults, answer)
        except Exception:  # noqa: BLE001  # a bug of the sandbox must look like one, and not like a refusal
            _log.exception("the sandbox failed at %s", call.endpoint)
            answer = _refused(server_error(500, "The sandbox itself has a bug; its log shows where."))
            self._record(call, faults, answer)
        self._sandbox.deliverer.wake()
        if answer.deliveries and first(faults, "webhook_first"):
            await self._sandbox.deliverer.tried_once(answer.deliveries, _WEBHOOK_FIRST_AT_MOST_S)
        await _pause(faults, "delay_after")
        if first(faults, "drop_after"):
            return Dropped()
        return self._dressed(call, _disguised(answer, faults))

    def _decided(self, call: Call, faults: list[Fault]) -> Answer:
        scripted = first(faults, "status", "html")
        try:
            self._admit(call)
            if scripted and not (scripted.saved or scripted.applied):
                return _scripted(scripted)
            call.params = self._read(call)
            if call.key is None:
                return self._operated(call, scripted)
            return self._operated_once(call, call.key, scripted)
        except ApiError as refusal:
            return _refused(refusal, as_public=call.publishable)

    def _admit(self, call: Call) -> None:
        call.params = decode(call.encoded)
        call.publishable = caller(self._sandbox.settings, call.request.headers, call.params) == "publishable"
        if call.publishable and call.operation.publishable_fields is None:
            raise secret_key_required()
        if not self._sandbox.rate_limit.passes():
            raise rate_limited()

    def _read(self, call: Call) -> Params:
        if call.key:
            idempotency.check_length(call.key)
        operation = call.operation
        fields = operation.publishable_fields if call.publishable else operation.fields
        return Fields(fields or {}, operation.required).read("", call.params)

    def _operated_once(self, call: Call, key: str, scripted: Fault | None) -> Answer:
        if call.key_was_in_use:
            raise idempotency.in_use(key)
        state, now = self._sandbox.state, self._sandbox.clock.now()
        print_of_params = idempotency.fingerprint(call.params)
        before = idempotency.find(state, now, key, call.endpoint, print_of_params)
        if before is not None:
            return Answer(before.status, before.body, original_request=before.request_id)
        answer = self._operated(call, scripted)
        if answer.stored:
            stored = idempotency.Stored(answer.status, answer.body, call.request_id)
            idempotency.store(state, now, key, call.endpoint, print_of_params, stored)
        return answer

    def _operated(self, call: Call, scripted: Fault | None) -> Answer:
        if scripted and not scripted.applied:
            return _scripted(scripted)
        turn = self._turn(call)
        timers.run_due(turn)
        try:
            with self._sandbox.state.step():
                document = call.operation.run(turn)
                answer = Answer(200, orjson.dumps(self._shown(call, document)))
        except ApiError as refusal:
            answer = _refused(refusal, as_public=call.publishable)
        if scripted:
            answer = _scripted(scripted)
        answer.deliveries = turn.deliveries
        return answer

    def _shown(self, call: Call, document: Document) -> Document:
        shown = public(document)
        if call.publishable and shown["object"] == "payment_intent":
            shown = as_publishable(shown)
        return expand(self._sandbox.state, shown, call.params.get("expand", []))

    def _turn(self, call: Call) -> Turn:
        turn = self._sandbox.turn()
        turn.target, turn.params = call.target, call.params
        turn.base_url = str(call.request.base_url).rstrip("/")
        turn.api_version = call.request.headers.get("stripe-version", API_VERSION)
        turn.request_id = call.request_id
        turn.idempotency_key = call.key
        turn.publishable = call.publishable
        return turn

    def _record(self, call: Call, faults: list[Fault], answer: Answer | None) -> None:
        entry = {
            "request_id": call.request_id,
            "method": call.request.method,
            "path": call.request.url.path,
            "operation": call.operation.name,
            "params": call.params,
            "caller": "publishable" if call.publishable else "secret",
            "idempotency_key": call.key,
            "status": answer.status if answer else None,
            "code": answer.code if answer else None,
            "replayed": answer.replayed if answer else False,
            "faults": [fault.action for fault in faults],
        }
        journal.record(self._sandbox.state, call.received_at, entry)

    def _dressed(self, call: Call, answer: Answer) -> Response:
        headers = {
            "Request-Id": call.request_id,
            "Stripe-Version": call.request.headers.get("stripe-version", API_VERSION),
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": "Request-Id",
            "Cache-Control": "no-cache, no-store",
        }
        if call.key:
            headers["Idempotency-Key"] = call.key.encode("ascii", "replace").decode()
            headers["Original-Request"] = answer.original_request or call.request_id
        if answer.replayed:
            headers["Idempotent-Replayed"] = "true"
        media_type = "text/html" if answer.body.startswith(b"<") else "application/json"
        return Response(answer.body, answer.status, headers | answer.headers, media_type)


def _refused(refusal: ApiError, *, as_public: bool = False) -> Answer:
    body: dict[str, Any] = refusal.body()
    if as_public and "payment_intent" in refusal.error:
        body = {"error": refusal.error | {"payment_intent": as_publishable(refusal.error["payment_intent"])}}
    return Answer(refusal.status, orjson.dumps(body), refusal.headers, refusal.stored, refusal.error.get("code"))


def _scripted(fault: Fault) -> Answer:
    """Return the answer that a fault asks for instead of the true one."""
    if fault.action == "html":
        return Answer(fault.status, b"<html><body><h1>Bad Gateway (injected)</h1></body></html>", stored=False)
    if fault.status == 429:
        error: ApiError = rate_limited(fault.retry_after_s, fault.code or "rate_limit")
    elif fault.status < 500:
        error = ApiError(fault.message or "Injected by a fault.", status=fault.status, code=fault.code)
    else:
        error = server_error(fault.status, fault.message)
    answer = _refused(error)
    answer.stored = fault.saved
    if fault.retry_after_s is not None:
        answer.headers["Retry-After"] = f"{fault.retry_after_s:g}"
    if fault.should_retry is not None:
        answer.headers["Stripe-Should-Retry"] = "true" if fault.should_retry else "false"
    return answer


def _disguised(answer: Answer, faults: list[Fault]) -> Answer:
    """Let the answer lie about the amount; what is stored stays true."""
    wrong = first(faults, "wrong_amount")
    if wrong and answer.status == 200:
        answer.body = orjson.dumps(orjson.loads(answer.body) | {"amount": wrong.amount})
    return answer


async def _pause(faults: list[Fault], action: str) -> None:
    delay_ms = sum(fault.delay_ms for fault in faults if fault.action == action)
    if delay_ms:
        await asyncio.sleep(delay_ms / 1000)
