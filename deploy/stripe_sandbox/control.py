"""`/_sandbox/`: what no real Stripe has. Look into the sandbox, make it misbehave, move its time."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import book, confirming, deliveries, disputes, faults, journal, refunds, timers
from .errors import ApiError
from .sandbox import Sandbox
from .state import Document, public
from .three_d_secure import BankPage
from .turn import Turn

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One control call."""

    query: Mapping[str, str]
    path: Mapping[str, Any]
    given: Document  # its JSON body


class ControlInvalid(ValueError):
    """The control call makes no sense; the text says why."""


class Control:
    """The handlers; each one is one page or one lever."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._bank = BankPage(sandbox)

    def routes(self) -> list[Route]:
        table: tuple[tuple[str, str, Callable[[Ask], Document]], ...] = (
            ("GET", "/health", self.health),
            ("GET", "/journal", self.journal),
            ("GET", "/book", self.book),
            ("GET", "/faults", self.faults),
            ("POST", "/faults", self.add_faults),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/{id:int}", self.clear_faults),
            ("GET", "/deliveries", self.deliveries),
            ("POST", "/webhooks", self.steer_webhooks),
            ("GET", "/clock", self.clock),
            ("POST", "/clock", self.move_clock),
            ("POST", "/payment_intents/{id}/authenticate", self.authenticate),
            ("POST", "/payment_intents/{id}/settle", self.settle_payment),
            ("POST", "/payment_intents/{id}/dispute", self.dispute),
            ("POST", "/refunds/{id}/settle", self.settle_refund),
        )
        return [Route(f"/_sandbox{path}", _as_json(handler), methods=[method]) for method, path, handler in table]

    def health(self, _ask: Ask) -> Document:
        return {"ok": True, "what": "Holdfast's Stripe sandbox. It is not Stripe.", "now": self._sandbox.clock.now()}

    def journal(self, ask: Ask) -> Document:
        """`?operation=&after=&limit=`: calls, oldest first; `after` is the id of the last one seen."""
        query = ask.query
        limit = min(int(query.get("limit", "1000")), 10_000)
        found = journal.entries(
            self._sandbox.state, operation=query.get("operation"), after=int(query.get("after", "0")), limit=limit
        )
        return {"entries": found}

    def book(self, _ask: Ask) -> Document:
        lines = book.lines(self._sandbox.state)
        return {"payment_intents": lines, "totals": book.totals(lines)}

    def faults(self, _ask: Ask) -> Document:
        return {"faults": self._sandbox.plan.described()}

    def add_faults(self, ask: Ask) -> Document:
        """Take one fault, or `{"faults": [...]}`."""
        asked = ask.given.get("faults", [ask.given])
        if not isinstance(asked, list):
            raise ControlInvalid("`faults` is a list")
        added = [self._sandbox.plan.add(fault) for fault in [faults.parsed(item) for item in asked]]
        return {"ids": [fault.id for fault in added]}

    def clear_faults(self, ask: Ask) -> Document:
        return {"cleared": self._sandbox.plan.clear(ask.path.get("id"))}

    def deliveries(self, ask: Ask) -> Document:
        return {"deliveries": deliveries.described(self._sandbox.state, ask.query.get("event"))}

    def steer_webhooks(self, ask: Ask) -> Document:
        """`{"hold": true}`, `{"release": "in_order" | "reversed"}`, `{"redeliver": "evt_...", "copies": 1}`."""
        state, now = self._sandbox.state, self._sandbox.clock.wall()
        if ask.given.get("hold") is True:
            deliveries.hold(state)
            return {"held": True}
        if ask.given.get("release") in ("in_order", "reversed"):
            released = deliveries.release(state, now, ask.given["release"])
        elif isinstance(ask.given.get("redeliver"), str) and state.find("event", ask.given["redeliver"]):
            released = deliveries.redeliver(
                state, now, ask.given["redeliver"], _whole(ask.given.get("copies", 1), "copies", most=100)
            )
        else:
            raise ControlInvalid("expected hold, release (in_order, reversed) or redeliver (the id of an event)")
        self._sandbox.deliverer.wake()
        return {"deliveries": released}

    def clock(self, _ask: Ask) -> Document:
        return {"now": self._sandbox.clock.now()}

    def move_clock(self, ask: Ask) -> Document:
        """`{"advance_s": 86400}`: time goes only forward."""
        seconds = _whole(ask.given.get("advance_s"), "advance_s", most=10**9)
        self._sandbox.clock.advance(seconds)
        self._sandbox.tick()
        return {"now": self._sandbox.clock.now()}

    def authenticate(self, ask: Ask) -> Document:
        """`{"succeeded": true}`: what the customer would do on the bank's page."""
        intent = self._sandbox.state.find("payment_intent", ask.path["id"])
        if intent is None:
            raise ControlInvalid("no such PaymentIntent")
        return public(self._bank.conclude(intent, succeeded=_verdict(ask.given)))

    def settle_payment(self, ask: Ask) -> Document:
        """`{"succeeded": false}`: end `processing` now."""
        return self._act(
            "payment_intent",
            ask,
            lambda turn, intent: confirming.settle(turn, intent["id"], succeeded=_verdict(ask.given)),
        )

    def settle_refund(self, ask: Ask) -> Document:
        """`{"succeeded": false}`: the bank takes the refund or sends it back, days later too."""
        return self._act(
            "refund", ask, lambda turn, refund: refunds.settle(turn, refund["id"], succeeded=_verdict(ask.given))
        )

    def dispute(self, ask: Ask) -> Document:
        """`{"reason": "fraudulent"}`: the cardholder disputes a captured payment; an inquiry about it becomes that dispute."""

        def act(turn: Turn, intent: Document) -> None:
            if intent["status"] != "succeeded":
                raise ControlInvalid("only a captured payment can be disputed")
            for inquiry in turn.state.all_of("dispute", intent=intent["id"]):
                if inquiry["is_charge_refundable"]:
                    disputes.escalate(turn, inquiry)
                    return
            charge = turn.state.fetch("charge", intent["latest_charge"])
            disputes.open_dispute(turn, charge, reason=str(ask.given.get("reason", "fraudulent")), inquiry=False)

        return self._act("payment_intent", ask, act)

    def _act(self, kind: str, ask: Ask, act: Callable[[Turn, Document], None]) -> Document:
        state = self._sandbox.state
        document = state.find(kind, ask.path["id"])
        if document is None:
            raise ControlInvalid(f"no such {kind}")
        with state.transaction():
            turn = self._sandbox.turn()
            timers.run_due(turn)
            act(turn, document)
        self._sandbox.deliverer.wake()
        return public(state.fetch(kind, document["id"]))


def _whole(value: Any, name: str, *, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ControlInvalid(f"expected {name}, a whole number up to {most}")
    return value


def _verdict(given: Document) -> bool:
    succeeded = given.get("succeeded", True)
    if not isinstance(succeeded, bool):
        raise ControlInvalid("expected succeeded, true or false")
    return succeeded


def _as_json(handler: Callable[[Ask], Document]) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            body = await request.body()
            given = orjson.loads(body) if body else {}
            if not isinstance(given, dict):
                raise ControlInvalid("expected a JSON object")
            return Response(
                orjson.dumps(handler(Ask(request.query_params, request.path_params, given))),
                media_type="application/json",
            )
        except (
            ApiError,
            ValueError,
        ) as error:  # bad JSON, bad numbers, ControlInvalid and FaultInvalid are ValueErrors
            return Response(orjson.dumps({"error": str(error)}), 422, media_type="application/json")

    return answer
