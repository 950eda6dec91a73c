"""Takes in what payment_service tells of a payment: stored once, believed when it is news, ignored when it is not."""

from reservation_service.booking.reservations import note_payment
from reservation_service.metrics import Metrics
from reservation_service.saga import late_money
from reservation_service.saga.definition import Saga
from reservation_service.saga.late_money import LateMoney
from reservation_service.store import reservations, saga_log
from reservation_service.store.reservations import Booking
from shared.database import Connection, Database
from shared.payment_contract import PaymentEvent, PaymentStatus


class Messages:
    """All but `knows` run in their caller's transaction, `take_in` on a booking that the caller has locked."""

    def __init__(self, database: Database, saga: Saga, metrics: Metrics) -> None:
        self._database = database
        self._saga = saga
        self._metrics = metrics

    async def knows(self, event: PaymentEvent) -> bool:
        """Tell whether the answer to a call of ours has said this, or something newer: then it changes nothing here."""
        if event.status is PaymentStatus.AUTHORIZED:
            return False  # the guest's bank was no call of ours
        async with self._database.reading() as connection:
            booking = await reservations.booking(connection, event.reservation_id)
        if booking is None or not late_money.is_of(booking, event.payment_id, event.generation):
            return False
        return bool(event.generation == booking["generation"] and event.version <= booking["payment_version"])

    async def take_in(self, tx: Connection, booking: Booking, event: PaymentEvent) -> tuple[bool, LateMoney | None]:
        """Store what was told, and begin what has to be done about it if it is money that nobody waits for.

        Returns whether it was news, and what was begun.
        """
        if not late_money.is_of(booking, event.payment_id, event.generation):
            return False, None
        is_older = event.generation < booking["generation"]
        newest = await saga_log.newest_signal(tx, event.payment_id) if is_older else 0
        applied = await self._store(tx, booking, event)
        if not applied and not (is_older and event.version > newest):
            return False, None
        late = await late_money.hear(tx, self._saga, booking, event.model_dump())
        if late is not None:
            self._metrics.late_money.labels(late.notice).inc()
        return applied, late

    async def _store(self, tx: Connection, booking: Booking, event: PaymentEvent) -> bool:
        is_new = await self.keep(tx, event)
        current = event.generation == booking["generation"] and event.version > booking["payment_version"]
        if is_new and current:
            body = event.model_dump(mode="json")
            told = {name: value for name, value in body.items() if name not in {"payment_id", "occurred_at"}}
            await note_payment(tx, booking, told | {"id": body["payment_id"]})
        return is_new and current

    async def keep(self, tx: Connection, event: PaymentEvent) -> bool:
        """Store the message as it is; False when it was told before."""
        which = event.model_dump(include={"payment_id", "version", "reservation_id", "generation"})
        return await saga_log.store_signal(tx, **which, body=event.model_dump(mode="json"))
