"""payment_service as its neighbour sees it on the wire, with a book that adds up and a script of bad days.

Each request takes the next act of its operation's script; without one the answer is honest. An act says what is
*answered* and whether it *happened*, because those are two things.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson

from shared.payment_contract import Outcome, PaymentEvent, PaymentStatus
from shared.problems import InternalSignatureInvalid
from shared.signing import InternalSigner

Verifier = InternalSigner | None
Meanwhile = Callable[[str], Awaitable[None]]
_FINAL = {"ok", "declined", "too_late"}


class Died(Exception):
    """The process of the caller ends here: no line after this one ever runs in it."""


@dataclass(frozen=True)
class Act:
    """What one request meets: does it take effect, and what comes back."""

    name: str
    applies: bool = False
    outcome: Outcome | None = None
    code: str = "provider_trouble"
    retry_after_ms: int | None = None
    http: tuple[int, bytes] | None = None
    fails_with: Callable[[], Exception] | None = None
    distorts: dict[str, Any] = field(default_factory=dict)
    stale: bool = False


def _problem(status: int, code: str) -> tuple[int, bytes]:
    return status, orjson.dumps({"status": status, "code": code})


DECLINED = Act("declined", outcome=Outcome.DECLINED, code="card_declined")
DISPUTED = Act("disputed", outcome=Outcome.DECLINED, code="payment_disputed")
REFUSED = Act("refused", http=_problem(422, "VALIDATION_FAILED"))
NOT_FOUND = Act("not_found", http=_problem(404, "PAYMENT_NOT_FOUND"))
NOT_SENT = Act("not_sent", outcome=Outcome.NOT_SENT)
NO_CONNECTION = Act("no_connection", fails_with=lambda: httpx.ConnectError("refused"))
SHUT_OUT = Act("shut_out", http=_problem(401, "INTERNAL_SIGNATURE_INVALID"))
UNKNOWN = Act("unknown", outcome=Outcome.UNKNOWN)
UNKNOWN_APPLIED = Act("unknown_applied", applies=True, outcome=Outcome.UNKNOWN)
TIMEOUT = Act("timeout", fails_with=lambda: httpx.ReadTimeout("slow"))
ANSWER_LOST = Act("answer_lost", applies=True, fails_with=lambda: httpx.ReadTimeout("slow"))
RESET = Act("reset", applies=True, fails_with=lambda: httpx.RemoteProtocolError("cut"))
GARBAGE = Act("garbage", applies=True, http=(200, b"<html>it works</html>"))
BROKEN = Act("broken", http=(500, b"oops"))
BUSY = Act("busy", http=_problem(503, "SERVICE_UNAVAILABLE"))
IN_PROGRESS = Act("in_progress", http=_problem(409, "IDEMPOTENCY_IN_PROGRESS"))
TOO_LATE = Act("too_late", outcome=Outcome.TOO_LATE, code="already_captured")
WRONG_AMOUNT = Act("wrong_amount", applies=True, distorts={"amount": 1})
WRONG_CURRENCY = Act("wrong_currency", applies=True, distorts={"currency": "XTS"})
WRONG_BOOKING = Act("wrong_booking", applies=True, distorts={"reservation_id": str(uuid4())})
CAPTURED_LESS = Act("captured_less", applies=True, distorts={"captured": 1})
CONTRADICTION = Act("contradiction", outcome=Outcome.UNKNOWN, code="amount_mismatch")
STALE = Act("stale", applies=True, distorts={"status": "requires_payment", "version": 1}, stale=True)
DIES_BEFORE = Act("dies_before", fails_with=Died)
DIES_AFTER = Act("dies_after", applies=True, fails_with=Died)

PASSING_TROUBLE = (
    NOT_SENT,
    NO_CONNECTION,
    SHUT_OUT,
    UNKNOWN,
    UNKNOWN_APPLIED,
    TIMEOUT,
    ANSWER_LOST,
    RESET,
    GARBAGE,
    BROKEN,
    BUSY,
    IN_PROGRESS,
)
"""Everything after which the same call again must simply come right."""


@dataclass(frozen=True)
class Entry:
    """One payment in the book."""

    id: UUID
    reservation_id: UUID
    generation: int
    amount: int
    currency: str
    status: PaymentStatus = PaymentStatus.REQUIRES_PAYMENT
    version: int = 1
    captured: int = 0
    refunded: int = 0
    decline_class: str | None = None
    capture_before: datetime | None = None
    captures: int = 0

    def view(self) -> dict[str, Any]:
        shown = {name: value for name, value in vars(self).items() if name != "captures"}
        secrets = {"client_secret": f"pi_{self.id.hex}_secret_x", "publishable_key": "pk_test_x"}
        return {**shown, "id": str(self.id), "reservation_id": str(self.reservation_id), **secrets}


@dataclass(frozen=True)
class Refund:
    """One refund in the book: `pending`, `succeeded` or `failed`, as the provider says."""

    payment_id: UUID
    amount: int
    status: str = "pending"


class ScriptedPayments:
    """The double: `script` what goes wrong, `pay` as a guest, `transport` for the client under test.

    `before` and `after` are awaited with the operation's name before it is done and while its answer is on the way.
    """

    def __init__(self, verifier: Verifier = None) -> None:
        self.book: dict[UUID, Entry] = {}
        self.calls: list[tuple[str, str]] = []
        self.transport = httpx.MockTransport(self._answer)
        self.before: Meanwhile | None = None
        self.after: Meanwhile | None = None
        self._verifier = verifier
        self._scripts: dict[str, deque[Act]] = defaultdict(deque)
        self._always: dict[str, Act] = {}
        self._final: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, Refund] = {}
        self.refunds_take_time = False

    # what a test says

    def script(self, operation: str, *acts: Act) -> None:
        """Let the next requests of `create`, `get`, `capture`, `cancel` or `refund` meet these, one each."""
        self._scripts[operation].extend(acts)

    def always(self, operation: str, act: Act | None) -> None:
        """Let every request meet this one, after the script has run out; `None` ends it."""
        self._always.pop(operation, None)
        if act is not None:
            self._always[operation] = act

    def heal(self) -> None:
        """End every fault."""
        self.before = self.after = None
        self.refunds_take_time = False
        self._scripts.clear()
        self._always.clear()

    def change(self, payment_id: UUID, **values: Any) -> PaymentEvent:
        """Change a payment as the provider would, and return the message about it."""
        entry = self.book[payment_id]
        self.book[payment_id] = replace(entry, version=entry.version + 1, **values)
        return self.event(payment_id)

    def create_paid(
        self, payment_id: UUID, reservation_id: UUID, *, amount: int, currency: str = "EUR"
    ) -> PaymentEvent:
        """Let a create have taken effect, and the guest have paid, before its answer is on the way."""
        self.book[payment_id] = Entry(payment_id, reservation_id, 1, amount, currency)
        return self.pay(payment_id)

    def pay(self, payment_id: UUID) -> PaymentEvent:
        """Let the guest's card be authorised."""
        return self.change(payment_id, status=PaymentStatus.AUTHORIZED)

    def settle_refund(self, payment_id: UUID, status: str = "succeeded") -> PaymentEvent:
        """Let the newest refund of a payment come to its end, even if it had one: it may fail days after it looked done."""
        refund_id = [key for key, one in self.refunds.items() if one.payment_id == payment_id][-1]
        was, entry = self.refunds[refund_id], self.book[payment_id]
        self.refunds[refund_id] = replace(was, status=status)
        arrives = (status == "succeeded") - (was.status == "succeeded")
        refunded = entry.refunded + arrives * was.amount
        in_full = PaymentStatus.REFUNDED if refunded == entry.captured else PaymentStatus.PARTIALLY_REFUNDED
        stands = in_full if status == "succeeded" else PaymentStatus.REFUND_FAILED
        return self.change(payment_id, status=stands, refunded=refunded)

    def refunds_of(self, payment_id: UUID) -> list["Refund"]:
        return [one for one in self.refunds.values() if one.payment_id == payment_id]

    def event(self, payment_id: UUID) -> PaymentEvent:
        """Return the message that tells how a payment stands now."""
        entry = self.book[payment_id]
        told = {name: value for name, value in vars(entry).items() if name not in {"id", "captures"}}
        return PaymentEvent(payment_id=payment_id, occurred_at=datetime.now(UTC), **told)

    def of(self, reservation_id: UUID) -> list[Entry]:
        """Return a booking's payments."""
        return [entry for entry in self.book.values() if entry.reservation_id == reservation_id]

    def counted(self) -> Counter[str]:
        """Return how often each operation was asked for."""
        return Counter(operation for operation, _ in self.calls)

    # what the client meets

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        if self._verifier is not None:
            try:
                self._verifier.verify(request.method, str(request.url), request.headers, request.content)
            except InternalSignatureInvalid:
                return _as_response(_problem(401, "INTERNAL_SIGNATURE_INVALID"))
        operation, payment_id = _read(request)
        act = self._next(operation)
        self.calls.append((operation, act.name if act else "honest"))
        if self.before is not None:
            await self.before(operation)
        if operation == "timeline" and act is None:
            return self._timeline(payment_id)
        body = orjson.loads(request.content) if request.content else {}
        key = request.headers.get("idempotency-key", "")
        if act is None or act.applies:
            answer = self._final.get(key) or self._act(operation, payment_id, body)
            if answer["outcome"] in _FINAL and operation != "get":
                self._final[key] = answer
        if act is not None and act.fails_with is not None:
            raise act.fails_with()
        if act is not None and act.http is not None:
            return _as_response(act.http)
        if act is not None and act.outcome is not None:
            error = {"code": act.code, "detail": "scripted", "retry_after_ms": act.retry_after_ms}
            answer = {"outcome": str(act.outcome), "error": error}
        entry = self.book.get(payment_id)
        if entry is None and operation == "get" and act is None:
            return _as_response(_problem(404, "PAYMENT_NOT_FOUND"))
        if act is not None and act.stale:
            answer = {**answer, "stale": True}
        view = {**entry.view(), **(act.distorts if act else {})} if entry else None
        if self.after is not None:
            await self.after(operation)
        return httpx.Response(200, content=orjson.dumps({**answer, "payment": view}))

    def _timeline(self, payment_id: UUID) -> httpx.Response:
        entry = self.book.get(payment_id)
        if entry is None:
            return _as_response(_problem(404, "PAYMENT_NOT_FOUND"))
        line = {"at": datetime.now(UTC), "kind": "status", "what": entry.status, "detail": f"version {entry.version}"}
        return httpx.Response(200, content=orjson.dumps({"data": [line]}))

    def _next(self, operation: str) -> Act | None:
        script = self._scripts[operation]
        return script.popleft() if script else self._always.get(operation)

    def _act(self, operation: str, payment_id: UUID, body: dict[str, Any]) -> dict[str, Any]:
        """Do what an honest payment_service does, and return its answer without the payment."""
        if operation == "create":
            return self._create(payment_id, body)
        if operation == "cancel":
            return self._cancel(payment_id, body)
        entry = self.book.get(payment_id)
        if operation == "get" or entry is None:
            return {"outcome": "ok"}
        return self._capture(entry) if operation == "capture" else self._refund(entry, body)

    def _create(self, payment_id: UUID, body: dict[str, Any]) -> dict[str, Any]:
        entry = self.book.setdefault(
            payment_id,
            Entry(payment_id, UUID(body["reservation_id"]), body["generation"], body["amount"], body["currency"]),
        )
        return {"outcome": "ok"} if entry.status != "canceled" else _error("declined", "payment_canceled")

    def _cancel(self, payment_id: UUID, body: dict[str, Any]) -> dict[str, Any]:
        tombstone = Entry(
            payment_id, UUID(body["reservation_id"]), body["generation"], 0, "XXX", PaymentStatus.CANCELED, version=0
        )
        entry = self.book.setdefault(payment_id, tombstone)
        if entry.captured:
            return _error("too_late", "already_captured")
        if entry.status is not PaymentStatus.CANCELED or not entry.version:
            self.change(payment_id, status=PaymentStatus.CANCELED)
        return {"outcome": "ok"}

    def _capture(self, entry: Entry) -> dict[str, Any]:
        if entry.captured:
            return {"outcome": "ok"}
        if entry.status is PaymentStatus.CANCELED:
            return _error("declined", "payment_canceled")
        if entry.status is not PaymentStatus.AUTHORIZED:
            return _error("not_sent", "payment_not_authorized")
        self.change(entry.id, status=PaymentStatus.CAPTURED, captured=entry.amount, captures=entry.captures + 1)
        return {"outcome": "ok"}

    def _refund(self, entry: Entry, body: dict[str, Any]) -> dict[str, Any]:
        refund = self.refunds.get(body["refund_id"])
        if refund is not None and refund.status == "failed":
            return _error("declined", "refund_failed")
        if refund is None:
            self.refunds[body["refund_id"]] = Refund(entry.id, body["amount"])
            claimed = sum(one.amount for one in self.refunds_of(entry.id) if one.status != "failed")
            assert claimed <= entry.captured, "more was given back than was taken"
            if self.refunds_take_time:
                self.change(entry.id, status=PaymentStatus.REFUND_PENDING)
            else:
                self.settle_refund(entry.id)
        return {"outcome": "ok"}


def _error(outcome: str, code: str) -> dict[str, Any]:
    return {"outcome": outcome, "error": {"code": code, "detail": "as the real one says"}}


def _as_response(answer: tuple[int, bytes]) -> httpx.Response:
    return httpx.Response(answer[0], content=answer[1])


def _read(request: httpx.Request) -> tuple[str, UUID]:
    """Return the operation and the payment that a request is about."""
    prefix, *rest = request.url.path.removeprefix("/internal/v1/").split("/")
    assert prefix == "payments", request.url
    if not rest:
        return "create", UUID(orjson.loads(request.content)["payment_id"])
    return (rest[1].removesuffix("s") if len(rest) > 1 else "get"), UUID(rest[0])
