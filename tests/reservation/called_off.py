"""A booking that is to be called off, and everybody's way to it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.answers import answered
from tests.doubles import scripted_payments as acts
from tests.reservation.box_office import DRAIN_S, BoxOffice, Customer, Offer

TOTAL_MINOR = 9000


@dataclass
class Booked:
    """A confirmed booking of two seats, and everybody's way to it."""

    office: BoxOffice
    offer: Offer
    guest: Customer
    id: str

    async def quote(self) -> Any:
        return await self.guest.ask("GET", f"/v1/reservations/{self.id}/cancellation-quote")

    async def cancel(self, *, key: str = "cancel", headers: dict[str, str] | None = None, **body: Any) -> Any:
        path = f"/v1/reservations/{self.id}/cancel"
        return await self.guest.ask("POST", path, key=f"{key}-{self.id}", json=body, headers=headers or {})

    async def cancel_as_operator(self, **body: Any) -> Any:
        path = f"/admin/v1/reservations/{self.id}/cancel"
        return await self.office.operator().ask("POST", path, json={"reason": "the guest called", **body})

    async def starts_in(self, minutes: float) -> None:
        """Move the start of the slot to so many minutes from now."""
        await self.office.sql(
            "UPDATE time_slots SET starts_at = at, sells_until = at, ends_at = at + interval '2 h'"
            " FROM (SELECT clock_timestamp() + make_interval(secs => :secs) AS at) AS start WHERE id = :id",
            secs=minutes * 60.0,
            id=UUID(self.offer.slot_id),
        )

    async def turn(self) -> None:
        await self.office.sql(
            "UPDATE sagas SET due_at = clock_timestamp(), lease_until = NULL"
            " WHERE due_at IS NOT NULL AND reservation_id = :id",
            id=UUID(self.id),
        )
        await self.office.parts.engine.run_due()
        await self.office.parts.engine.drain(DRAIN_S)

    async def tell(self, event: Any) -> None:
        answered(await self.office.tell(event))
        await self.office.parts.engine.drain(DRAIN_S)

    @property
    def entry(self) -> acts.Entry:
        (entry,) = self.office.payments.of(UUID(self.id))
        return entry

    async def saga(self) -> Any:
        newest = "SELECT * FROM sagas WHERE reservation_id = :id ORDER BY id DESC LIMIT 1"
        (row,) = await self.office.sql(newest, id=UUID(self.id))
        return row

    async def undone(self) -> list[str]:
        """Return what was undone, in the order in which it was."""
        rows = await self.office.sql(
            "SELECT step FROM saga_log WHERE saga_id = :id AND direction = 'undo' AND event = 'done' ORDER BY id",
            id=(await self.saga())["id"],
        )
        return [row["step"] for row in rows]


async def held(office: BoxOffice, **terms: Any) -> Booked:
    guest, offer = office.customer(), await office.offer(**terms)
    return Booked(office, offer, guest, str(answered(await guest.hold(offer, 2), 201)["id"]))


async def pending(office: BoxOffice, **terms: Any) -> Booked:
    booked = await held(office, **terms)
    answered(await booked.guest.convert(booked.id), 201)
    return booked


async def confirmed(office: BoxOffice, **terms: Any) -> Booked:
    booked = await pending(office, **terms)
    await office.pay(booked.id)
    assert await office.status(booked.id) == "confirmed"
    return booked
