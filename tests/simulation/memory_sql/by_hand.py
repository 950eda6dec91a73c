"""The few statements that the product writes as SQL text, word for word in Python: taking seats, and giving them back.

Each is known by its text: when the product's SQL changes, it is not found here, and says so. `test_parity` holds them
against PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

import orjson

from tests.simulation.memory_sql.result import Result

Parameters = Mapping[str, Any]
Handler = Callable[[Any, Parameters], Result]


def run(store: Any, sql: str, parameters: Parameters) -> Result:
    """Run a statement that is told as text."""
    handler = _handlers().get(sql)
    if handler is None:
        raise NotImplementedError(f"write this statement down in tests/simulation/memory_sql/by_hand.py: {sql}")
    return handler(store, parameters)


@cache
def _handlers() -> dict[str, Handler]:
    from reservation_service.store import catalogue, reservations, slot_cancellations, slots

    found: dict[Any, Handler] = {
        slots._TAKE: _take,
        slots._TAKE_AGAIN: _take,
        slots._EXPIRE_ANY: _expire,
        slots._EXPIRE_OF_SLOT: _expire,
        slots._EXPIRE_OF_DISCOUNT: _expire,
        slots._GIVE_BACK: lambda store, given: _move_seats(store, given, -given["seats"]),
        slots._TAKE_BACK: _take_back,
        slots._FREE: _free,
        slots._WAIT_AT_MOST: lambda _store, _given: Result([], []),
        catalogue._OFFER: _offer,
        reservations._RIVALS: _rivals,
        slot_cancellations._RELEASE: _release,
        slot_cancellations._WAKE: _wake,
        slot_cancellations._ASK: _ask,
        slot_cancellations._OPEN_AGAIN: _open_again,
        slot_cancellations._CALL_OFF: _call_off,
        slot_cancellations._LEFT: _left,
    }
    return {text.sql: handler for text, handler in found.items()}


def _tables() -> Any:
    from reservation_service.store import tables

    return tables


def _take(store: Any, given: Parameters) -> Result:
    """The statement of a hold. `known` and `active` are what was there before; everything else comes with the seats."""
    tables, now = _tables(), store.now()
    key = store.rows(tables.idempotency).get((given["caller"], given["route"], given["key"]))
    known = store.rows(tables.reservations).get(key["hold_id"]) if key else None
    held = [row for row in store.rows(tables.reservations).values() if row["status"] == "held"]
    active = sum(row["caller"] == given["caller"] and row["expires_at"] > now for row in held)
    slot = store.rows(tables.time_slots).get(given["time_slot_id"])
    in_the_way = known is not None and known["id"] != given["supersedes"]
    expires_at = None
    if (
        slot is not None
        and slot["status"] == "open"
        and slot["sells_until"] > now
        and slot["taken"] + given["seats"] <= slot["capacity"]
        and not in_the_way
        and active < given["active_holds_max"]
    ):
        expires_at = _make_hold(store, given, slot)
    return Result.of_dicts(
        [
            {
                "expires_at": expires_at,
                "known_id": known and known["id"],
                "fingerprint": key and key["fingerprint"],
                "known_status": known and known["status"],
                "released_by": known and known["released_by"],
                "due": known and known["expires_at"] <= now,
                "active_holds": active,
                "slot_status": slot and slot["status"],
                "slot_over": slot and slot["sells_until"] <= now,
            }
        ]
    )


def _make_hold(store: Any, given: Parameters, slot: dict[str, Any]) -> Any:
    tables, now = _tables(), store.now()
    until = now.replace(microsecond=now.microsecond // 1000 * 1000) + timedelta(seconds=given["ttl_s"])
    _add_seats(store, slot, given["seats"])
    as_they_are = ("caller", "time_slot_id", "seats", "total_minor", "currency", "capture_method", "client_reference")
    row = {name: given[name] for name in (*as_they_are, "discount_id", "supersedes")}
    row |= {name: given[name] and orjson.loads(given[name]) for name in ("items", "price", "metadata")}
    row |= {"id": given["hold_id"], "expires_at": until, "created_expires_at": until}
    store.add(tables.reservations, store.new_row(tables.reservations, row))
    claim = {name: given[name] for name in ("caller", "route", "key", "hold_id", "fingerprint")}
    if given["supersedes"] is None:
        store.add(tables.idempotency, store.new_row(tables.idempotency, claim))
        return until
    old = store.rows(tables.idempotency).get((given["caller"], given["route"], given["key"]))
    if old and (old["hold_id"], old["fingerprint"]) == (given["supersedes"], given["fingerprint"]):
        store.change(tables.idempotency, old, {"hold_id": given["hold_id"], "created_at": now})
    return until


def _add_seats(store: Any, slot: dict[str, Any], seats: int) -> None:
    changed = {"taken": slot["taken"] + seats, "version": slot["version"] + 1}
    store.change(_tables().time_slots, slot, changed)


def _move_seats(store: Any, given: Parameters, seats: int) -> Result:
    slot = store.rows(_tables().time_slots).get(given["time_slot_id"])
    if slot is not None:
        _add_seats(store, slot, seats)
    return Result([], [], rowcount=int(slot is not None))


def _take_back(store: Any, given: Parameters) -> Result:
    slot = store.rows(_tables().time_slots).get(given["time_slot_id"])
    if slot is None or slot["status"] == "cancelled" or slot["taken"] + given["seats"] > slot["capacity"]:
        return Result([], [], rowcount=0)
    return _move_seats(store, given, given["seats"])


def _free(store: Any, given: Parameters) -> Result:
    slot = store.rows(_tables().time_slots).get(given["time_slot_id"])
    if slot is None:
        return Result(["free"], [])
    due = sum(row["seats"] for row in _due(store, {"time_slot_id": slot["id"]}))
    return Result(["free"], [[slot["capacity"] - slot["taken"] + due]])


def _due(store: Any, only: Parameters) -> list[dict[str, Any]]:
    now = store.now()
    rows = store.rows(_tables().reservations).values()
    due = [row for row in rows if row["status"] == "held" and row["expires_at"] <= now]
    due = [row for row in due if all(row[name] == value for name, value in only.items())]
    return sorted(due, key=lambda row: row["expires_at"])


def _note(store: Any, row: dict[str, Any], to: str, reason: str) -> None:
    event = {"reservation_id": row["id"], "from_status": "held", "to_status": to, "reason": reason}
    store.add(_tables().reservation_events, store.new_row(_tables().reservation_events, event))


def _expire(store: Any, given: Parameters) -> Result:
    tables = _tables()
    only = {name: value for name, value in given.items() if name != "batch"}
    due = _due(store, only)[: given["batch"]]
    for slot_id in {row["time_slot_id"] for row in due}:  # one update of each slot, as the statement has it
        seats = sum(row["seats"] for row in due if row["time_slot_id"] == slot_id)
        _add_seats(store, store.rows(tables.time_slots)[slot_id], -seats)
    for row in due:
        values = {"status": "expired", "seats_pinned": False, "version": row["version"] + 1}
        store.change(tables.reservations, row, values)
        _note(store, row, "expired", "time ran out")
    return Result(["count"], [[len(due)]])


def _offer(store: Any, given: Parameters) -> Result:
    tables = _tables()
    slot = store.rows(tables.time_slots).get(given["time_slot_id"])
    if slot is None:
        return Result([], [])
    sold = store.rows(tables.experiences)[slot["experience_id"]]
    tickets = [
        {
            name: str(row[name]) if name == "id" else row[name]
            for name in ("id", "code", "title", "price_minor", "seats")
        }
        for row in sorted(store.rows(tables.ticket_types).values(), key=lambda row: row["position"])
        if row["experience_id"] == sold["id"] and row["active"]
    ]
    terms = {name: sold[name] for name in ("currency", "max_party", "hold_ttl_seconds", "capture_method")}
    head = {"time_slot_id": slot["id"], "status": slot["status"], "capacity": slot["capacity"]}
    return Result.of_dicts([{**head, "experience_id": sold["id"], **terms, "tickets": tickets}])


def _rivals(store: Any, given: Parameters) -> Result:
    """What stands in the way of a booking that would have its seats again: a newer one for it, or another of its caller."""
    now = store.now()
    others = [row for row in store.all(_tables().reservations) if row["id"] != given["id"]]
    another = any(
        (row["caller"], row["time_slot_id"]) == (given["caller"], given["time_slot_id"])
        and row["seats_pinned"]
        and (row["status"] != "held" or row["expires_at"] > now)
        for row in others
    )
    superseded = any(row["supersedes"] == given["id"] for row in others)
    return Result.of_dicts([{"superseded": superseded, "another": another}])


def _bookings_of(store: Any, slot_id: Any, *statuses: str) -> list[dict[str, Any]]:
    rows = store.rows(_tables().reservations).values()
    return [row for row in rows if row["time_slot_id"] == slot_id and row["status"] in statuses]


def _release(store: Any, given: Parameters) -> Result:
    held = sorted(_bookings_of(store, given["slot_id"], "held"), key=lambda row: row["id"])[: given["batch"]]
    for row in held:
        values = {"status": "released", "released_by": "operator", "seats_pinned": False, "version": row["version"] + 1}
        store.change(_tables().reservations, row, values)
        _note(store, row, "released", "departure cancelled")
    return Result.of_dicts([{"holds": len(held), "seats": sum(row["seats"] for row in held)}])


def _wake(store: Any, given: Parameters) -> Result:
    tables = _tables()
    pending = [row for row in _bookings_of(store, given["slot_id"], "pending") if row["cancel_requested_at"] is None]
    ids = {row["id"] for row in pending}
    live = ("running", "waiting", "unwinding")
    sagas = [row for row in store.all(tables.sagas) if row["reservation_id"] in ids and row["status"] in live]
    woken = []
    for row in sorted(sagas, key=lambda row: row["id"])[: given["batch"]]:
        if row["due_at"] is not None:
            store.change(tables.sagas, row, {"due_at": store.now(), "attempts": 0})
            woken.append([row["reservation_id"]])
    return Result(["reservation_id"], woken)


def _ask(store: Any, given: Parameters) -> Result:
    tables = _tables()
    rows = [store.rows(tables.reservations)[booking_id] for booking_id in given["ids"]]
    asked = [row for row in rows if row["status"] == "pending" and row["cancel_requested_at"] is None]
    for row in asked:
        _write_down(store, row, given)
    return Result([], [], rowcount=len(asked))


def _write_down(store: Any, row: dict[str, Any], given: Parameters, **more: Any) -> None:
    asked = {"cancel_requested_at": store.now(), "cancellation": orjson.loads(given["cancellation"])}
    store.change(_tables().reservations, row, {**asked, "version": row["version"] + 1, **more})


def _open_again(store: Any, given: Parameters) -> Result:
    newest = []
    for booking in _bookings_of(store, given["slot_id"], "confirmed"):
        sagas = [row for row in _sagas_of(store, booking) if row["generation"] == booking["generation"]]
        newest += [row for row in sagas if row["id"] == max(saga["id"] for saga in sagas)]
    final = sorted((row for row in newest if row["status"] == "completed"), key=lambda row: row["id"])
    for row in final[: given["batch"]]:
        values = {"status": "unwinding", "unwinding_because": "asked", "due_at": store.now(), "lease_until": None}
        store.change(_tables().sagas, row, {**values, "lease_epoch": row["lease_epoch"] + 1, "attempts": 0})
    return Result(["reservation_id"], [[row["reservation_id"]] for row in final[: given["batch"]]])


def _call_off(store: Any, given: Parameters) -> Result:
    rows = [store.rows(_tables().reservations)[booking_id] for booking_id in given["ids"]]
    final = [row for row in rows if row["status"] == "confirmed"]
    for row in final:
        _write_down(store, row, given, refund_due_minor=row["total_minor"])
    return Result([], [], rowcount=len(final))


def _sagas_of(store: Any, booking: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in store.all(_tables().sagas) if row["reservation_id"] == booking["id"]]


def _left(store: Any, given: Parameters) -> Result:
    slot_id = given["slot_id"]
    counts = {
        status: len(_bookings_of(store, slot_id, status))
        for status in ("held", "pending", "confirmed", "needs_attention")
    }
    over = _bookings_of(store, slot_id, "cancelled", "failed")
    asked = [row for row in over if row["cancel_requested_at"] and row["cancel_requested_at"] >= given["since"]]
    stands = [{saga["status"] for saga in _sagas_of(store, row)} for row in over]
    more = {
        "unwound": sum(row["confirmed_at"] is None for row in asked),
        "cancelled": sum(row["confirmed_at"] is not None for row in asked),
        "refunds_outstanding": sum("unwinding" in statuses for statuses in stands),
        "refunds_failed": sum("needs_attention" in statuses for statuses in stands),
    }
    return Result.of_dicts([{**counts, **more}])
