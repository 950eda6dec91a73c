"""The internal doors of both services, from their routes on: a request in, a response or a problem out."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from payment_service.api import payments as payment_doors
from shared.payment_contract import (
    CancelPayment,
    CapturePayment,
    CreatePayment,
    PaymentEvent,
    PaymentEventReceipt,
    RefundPayment,
)
from shared.problems import Problem, Weather
from tests.simulation.wire import answer, refused


async def serve_payment(work: Any, request: Any, on_bug: Callable[[BaseException], None]) -> Any:
    """Do what the internal door of payment_service does with a request, from its routes on."""
    parts = SimpleNamespace(
        lifecycle=work.lifecycle, refunding=work.refunding, reading=work.reading, replays=work.replays
    )
    key = request.headers.get("idempotency-key", "")
    try:
        told = await _route(parts, request, key)
        return answer(200, told.model_dump_json().encode())
    except (Problem, Weather) as error:
        return refused(error)
    except Exception as error:  # noqa: BLE001  a door answers 500; the world is told
        on_bug(error)
        return answer(500, b'{"code": "INTERNAL"}')


async def _route(parts: Any, request: Any, key: str) -> Any:
    path = request.url.removeprefix("/internal/v1/payments").strip("/")
    payment_id, _, verb = path.partition("/")
    if request.method == "GET":
        return await payment_doors.get_payment(parts, UUID(payment_id))
    body = request.content

    def door(name: str) -> Any:
        return SimpleNamespace(
            method="POST", url=SimpleNamespace(path=request.url), scope={"route": SimpleNamespace(name=name)}
        )

    match verb:
        case "":
            order = CreatePayment.model_validate_json(body)
            return await payment_doors.create_payment(door("create_payment"), parts, key, order)
        case "capture":
            return await payment_doors.capture_payment(
                door("capture_payment"), parts, key, UUID(payment_id), CapturePayment.model_validate_json(body)
            )
        case "cancel":
            return await payment_doors.cancel_payment(
                door("cancel_payment"), parts, key, UUID(payment_id), CancelPayment.model_validate_json(body)
            )
        case "refunds":
            return await payment_doors.refund_payment(
                door("refund_payment"), parts, key, UUID(payment_id), RefundPayment.model_validate_json(body)
            )
    raise AssertionError(f"nothing in a world calls {request.url}")


async def serve_reservation(work: Any, request: Any, on_bug: Callable[[BaseException], None]) -> Any:
    """Take in a payment event, as the internal door of reservation_service does."""
    try:
        event = PaymentEvent.model_validate_json(request.content)
        applied = await work.engine.signal(event)
        known = work.engine.heard.say(besides=event.payment_id)
        receipt = PaymentEventReceipt(result="applied" if applied else "ignored", known=known)
        return answer(200, receipt.model_dump_json().encode())
    except (Problem, Weather) as error:
        return refused(error)
    except Exception as error:  # noqa: BLE001  a door answers 500; the world is told
        on_bug(error)
        return answer(500, b'{"code": "INTERNAL"}')
