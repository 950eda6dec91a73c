"""A saga in hand: what one transaction knows of it, and how what becomes of it is written down."""

from collections.abc import Callable
from uuid import UUID

from reservation_service.booking import reservations as booking_moves
from reservation_service.metrics import Metrics
from reservation_service.saga.definition import Direction, Event, LocalStep, Saga
from reservation_service.saga.journal import Journal
from reservation_service.saga.patience import Patience
from reservation_service.settings import ReservationSettings
from reservation_service.states import BookingStatus, SagaStatus
from reservation_service.store import saga_log
from reservation_service.store.reservations import Booking
from reservation_service.store.saga_log import NewLine, SagaRow
from shared.database import Connection


class SagaInHand:
    """Its row, its booking and its journal, all under the saga's row lock and the fence of its lease."""

    def __init__(
        self,
        tx: Connection,
        saga: Saga,
        row: SagaRow,
        booking: Booking,
        journal: Journal,
        settings: ReservationSettings,
        uniform: Callable[[float, float], float],
        metrics: Metrics,
    ) -> None:
        self._tx = tx
        self._saga = saga
        self._row = row
        self._booking = booking
        self._journal = journal
        self._settings = settings
        self._uniform = uniform
        self._metrics = metrics
        self._unwritten: list[NewLine] = []
        self.status = SagaStatus(row["status"])

    @property
    def known(self) -> tuple[UUID, int]:
        """Return the booking's payment, and how far it is known here."""
        return booking_moves.payment_id(self._booking), self._booking["payment_version"]

    @property
    def _patience(self) -> Patience:
        return Patience(self._booking, self._settings)

    def _captured(self) -> bool:
        return bool((self._booking["payment"] or {}).get("captured"))

    def _is_called_off(self) -> bool:
        """Somebody asked for the end of this booking while the way back is still open.

        Once the money is taken, or the payment could no longer be cancelled, the way leads forward: the booking becomes
        final, and what was asked for is then a cancellation with a refund.
        """
        if self._booking["cancel_requested_at"] is None or self._booking["status"] != BookingStatus.PENDING:
            return False
        return not (self._captured() or self._journal.is_past_pivot(self._saga) or self._journal.came_too_late())

    def _is_cancelled_after_all(self) -> bool:
        """Somebody asked while the money was being taken: confirmed and cancelled in this very transaction."""
        return self._booking["cancel_requested_at"] is not None and self._booking["status"] == BookingStatus.CONFIRMED

    def _longest_wait_s(self) -> float:
        """Return how far tries may be apart: while seats are kept not far, when only money is left an outage is sat out."""
        kept = self._booking["seats_pinned"]
        return self._settings.saga_backoff_max_s if kept else self._settings.refund_look_max_seconds

    def _note(self, step: str, direction: Direction, event: Event, detail: object = None) -> None:
        """Add a line to the journal. Lines are written together: when the transaction ends, or the booking moves.

        What led to a move is written before it, because timelines go by the moment.
        """
        self._unwritten.append(NewLine(step, direction, event, detail))
        self._journal.add(step, direction, event)

    async def _write_lines(self) -> None:
        await saga_log.append_all(self._tx, self._row, self._unwritten)
        self._unwritten = []

    async def _do_here(self, step: LocalStep) -> None:
        """Take a step of our own."""
        await self._write_lines()
        self._see(await step.do(self._tx, self._booking, self._row))
        self._note(step.name, "do", Event.DONE)

    async def _undo_here(self, step: LocalStep) -> None:
        await self._write_lines()
        self._see(await step.undo(self._tx, self._booking, self._row))
        self._note(step.name, "undo", Event.DONE)

    def _see(self, booking: Booking) -> None:
        """Go on with the booking as it is now, its row being locked by this transaction."""
        if booking["status"] != self._booking["status"]:
            self._metrics.bookings.labels(booking["status"]).inc()
        self._booking = booking

    async def _become(self, status: SagaStatus, **values: str | int | None) -> None:
        self._row = await saga_log.set_status(self._tx, self._row["id"], status, **values)
        self.status = status

    async def _rest(self, due_in_s: float, status: SagaStatus) -> None:
        await saga_log.rest(self._tx, self._row["id"], self._row["lease_epoch"], due_in_s=due_in_s, status=status)

    @property
    def _payee(self) -> Booking:
        """The booking as the acts see it: with the payment that this saga is about, which may be an older one."""
        if self._row["generation"] == self._booking["generation"]:
            return self._booking
        # What was told, and what the terms give back, is of the present payment: of an older one all goes back.
        return {**self._booking, "generation": self._row["generation"], "payment": None, "refund_due_minor": None}

    def _has_seats(self) -> bool:
        """Tell whether the booking's seats are this saga's; one that only takes money back has none."""
        return bool(self._booking["seats_pinned"]) and self._journal.is_done(self._saga.parts[0].name)

    async def _needs_attention(self, reason: str) -> None:
        if self._has_seats():
            await self._write_lines()
            await booking_moves.ask_for_attention(self._tx, self._booking, reason)
        await saga_log.end(
            self._tx, self._row["id"], self._row["lease_epoch"], SagaStatus.NEEDS_ATTENTION, reason=reason
        )
