"""What every guest is promised, told once on a slot of four seats; where a flag makes a difference, the difference too.

Whatever the flags say, seats and money come out the same: two seats sold and paid for, then given back, and nothing
kept of anybody else's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx

from reservation_service.flags import RATE_LIMITING, REPLACE_OWN_HOLD, SAGA_ORCHESTRATION, SMART_IDEMPOTENCY
from shared.telling import METRICS, POOL_METRICS
from tests.answers import answered, refused
from tests.faults.forked.stories import BAD_CARD, GOOD_CARD
from tests.faults.forked.town import Town
from tests.parity.switches import Switches
from tests.reservation.box_office import Customer, Offer

CAPACITY = 4
_SEATS = 2
_TOTAL_MINOR = 9000
_STRIPE_COMES_AGAIN_S = 30

Pause = Callable[[], Awaitable[None]]


class Contract:
    """One telling: `pause` comes between any two things that happen, and may turn flags over."""

    def __init__(self, town: Town, switches: Switches, offer: Offer, name: str, pause: Pause) -> None:
        self._town = town
        self._on = switches.on
        self._offer = offer
        self._name = name
        self._pause = pause
        self._buyer, self._loser = (town.customer(f"{who}-{name}") for who in ("buyer", "loser"))
        self.started: dict[str, bool] = {}

    async def tell(self) -> None:
        """Live through it. An answer that is not as promised fails at once."""
        bought = await self._hold_and_replay()
        await self._look_at_the_pages()
        await self._pause()
        key, lost = await self._fill_up()
        await self._pause()
        lost = await self._lapse_and_come_back(key, lost)
        await self._pause()
        await self._convert_and_pay(bought)
        await self._pause()
        await self._repeat_the_webhook(bought)
        await self._pause()
        await self._decline_and_run_out(lost)
        assert await self._free() == CAPACITY - _SEATS
        await self._pause()
        await self._cancel(bought)
        assert await self._free() == CAPACITY

    async def frozen(self) -> None:
        """Each saga still has the flag as it stood when it was started, however often it was turned since."""
        for booking_id, was_on in self.started.items():
            (row,) = await self._sql("SELECT flags FROM sagas WHERE reservation_id = :id", booking_id)
            assert row["flags"][SAGA_ORCHESTRATION] is was_on, (booking_id, row["flags"])

    async def _hold(self, who: Customer, key: str, seats: int = _SEATS) -> httpx.Response:
        return await who.hold(self._offer, seats, key=f"{key}-{self._name}")

    async def _hold_and_replay(self) -> str:
        """The same key is the same hold, byte for byte; with another body it is refused. Limits are told if they count."""
        limited = self._on[RATE_LIMITING]
        first = await self._hold(self._buyer, "buy")
        hold_id: str = answered(first, 201)["id"]
        assert ("ratelimit" in first.headers) is limited
        await self._pause()
        again = await self._hold(self._buyer, "buy")
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
        refused(await self._hold(self._buyer, "buy", 1), 422, "IDEMPOTENCY_KEY_REUSED")
        return hold_id

    async def _look_at_the_pages(self) -> None:
        """What is scraped of either service tells as much as its flags let it."""
        for door in (self._town.reservation, self._town.payment):
            page = (await door.get("/metrics")).text
            assert (page == "# EOF\n") is not self._on[METRICS]
            assert ("db_client_connections{" in page) is (self._on[METRICS] and self._on[POOL_METRICS])

    async def _fill_up(self) -> tuple[str, str]:
        """The rest is held by another guest, whose older hold makes way for a newer one where that is promised.

        Returns the key and the id of the hold that this guest has then.
        """
        held: str = answered(await self._hold(self._loser, "lose"), 201)["id"]
        refused(await self._hold(self._town.customer(f"late-{self._name}"), "late", 1), 409, "SLOT_UNAVAILABLE")
        await self._sql("UPDATE reservations SET created_at = created_at - interval '2 min' WHERE id = :id", held)
        await self._pause()
        replaces = self._on[REPLACE_OWN_HOLD]
        newer = await self._hold(self._loser, "newer")
        if not replaces:
            refused(newer, 409, "SLOT_UNAVAILABLE")
            return "lose", held
        assert answered(await self._loser.see_hold(held))["status"] == "released"
        return "newer", str(answered(newer, 201)["id"])

    async def _lapse_and_come_back(self, key: str, held: str) -> str:
        """Seats that lapsed are free at once; the same key then renews, or replays what is over, as promised."""
        await self._sql("UPDATE reservations SET expires_at = clock_timestamp() - interval '1 s' WHERE id = :id", held)
        other = self._town.customer(f"other-{self._name}")
        taken = answered(await self._hold(other, "other"), 201)["id"]
        assert answered(await other.release(taken))["status"] == "released"
        await self._pause()
        renews = self._on[SMART_IDEMPOTENCY]
        again = await self._hold(self._loser, key)
        renewed = answered(again, 201)
        if renews:
            assert (renewed["supersedes"], again.headers["idempotency-renewed"]) == (held, "true")
            return str(renewed["id"])
        assert (renewed["id"], again.headers["idempotent-replayed"]) == (held, "true")
        refused(await self._loser.convert(held), 410, "HOLD_EXPIRED")
        return str(answered(await self._hold(self._loser, "anew"), 201)["id"])

    async def _convert_and_pay(self, booking_id: str) -> None:
        secret = await self._secret(self._buyer, booking_id)
        await self._pause()
        assert (await self._town.pay(secret, GOOD_CARD)).status_code == 200
        await self._pause()
        # The same call again is the only retry that a guest needs: it drives on what nobody else does without its flag.
        seen = await self._town.insist(lambda: self._buyer.convert(booking_id), _is_over)
        assert (seen["outcome"], seen["payment"]["captured"]["amount"]) == ({"type": "succeeded"}, _TOTAL_MINOR)

    async def _repeat_the_webhook(self, booking_id: str) -> None:
        """Stripe tells the same event twice; the second time changes nothing."""
        query = (
            "SELECT e.stripe_event_id, e.type, e.intent_id FROM webhook_events AS e JOIN payments AS p USING (intent_id)"
            " WHERE p.reservation_id = :id LIMIT 1"
        )

        async def told() -> bool:
            return bool(await self._town.sql(self._town.payment_database, query, id=UUID(booking_id)))

        await self._town.wait_until(told)
        (event,) = await self._town.sql(self._town.payment_database, query, id=UUID(booking_id))
        async with asyncio.timeout(_STRIPE_COMES_AGAIN_S):
            while True:
                again = await self._town.tell(event["stripe_event_id"], event["type"], event["intent_id"])
                if again.status_code != 503:  # a worker has it in hand just now
                    break
                await asyncio.sleep(0.1)
        assert answered(again) == {"received": True, "duplicate": True}

    async def _decline_and_run_out(self, booking_id: str) -> None:
        """The other guest's only card is declined, time runs out: no money, and the seats go back."""
        secret = await self._secret(self._loser, booking_id)
        assert (await self._town.pay(secret, BAD_CARD)).status_code == 402
        await self._pause()
        await self._sql("UPDATE reservations SET pay_until = clock_timestamp() WHERE id = :id", booking_id)
        due = "UPDATE sagas SET due_at = clock_timestamp() WHERE reservation_id = :id AND due_at IS NOT NULL"
        await self._sql(due, booking_id)
        await self._until(self._loser, booking_id, "failed")

    async def _cancel(self, booking_id: str) -> None:
        """The buyer takes the booking back: the seats at once, and all of the money."""
        path = f"/v1/reservations/{booking_id}/cancel"
        await self._town.insist(
            lambda: self._buyer.ask("POST", path, key=f"cancel-{self._name}"), lambda seen: seen.status_code == 200
        )
        seen = answered(await self._buyer.see(booking_id))
        assert (seen["status"], seen["payment"]["refunded"]["amount"]) == ("cancelled", _TOTAL_MINOR)

    async def _secret(self, who: Customer, booking_id: str) -> str:
        """Convert, with the same call again while it is processing; return what the card is shown to."""
        self.started[booking_id] = self._on[SAGA_ORCHESTRATION]
        seen = await self._town.insist(lambda: who.convert(booking_id), _asks_for_a_card)
        return str(seen["outcome"]["client_secret"])

    async def _until(self, who: Customer, booking_id: str, status: str) -> None:
        await self._town.insist(lambda: who.see(booking_id), lambda seen: bool(seen.json().get("status") == status))

    async def _free(self) -> int:
        return int(answered(await self._town.reservation.get(f"/v1/time-slots/{self._offer.slot_id}"))["available"])

    async def _sql(self, statement: str, booking_id: str) -> Any:
        return await self._town.sql(self._town.reservation_database, statement, id=UUID(booking_id))


def _is_over(seen: httpx.Response) -> bool:
    return seen.status_code == 200 and seen.json()["status"] != "pending"


def _asks_for_a_card(seen: httpx.Response) -> bool:
    return seen.status_code in {200, 201} and seen.json()["outcome"]["type"] == "action_required"
