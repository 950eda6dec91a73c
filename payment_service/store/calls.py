"""The journal of calls to Stripe that change something: the intent before, the outcome after.

A call without an outcome may or may not have happened; so may one whose outcome is UNKNOWN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from payment_service.store.tables import payment_calls, question_numbers
from shared.changes import placed
from shared.database import Connection, Row
from shared.payment_contract import Outcome
from shared.prepared import Prepared

CREATE, CAPTURE, CANCEL, REFUND = "create", "capture", "cancel", "refund"
FIRST_KEY = 1

_CONCLUDED = frozenset({Outcome.DECLINED, Outcome.UNKNOWN, Outcome.TOO_LATE})


@dataclass(frozen=True)
class Earlier:
    """What is known of the calls that were made for one step before."""

    key_number: int = 0
    first_age_s: float = 0.0
    last_age_s: float = 0.0
    first_at: datetime | None = None
    last_at: datetime | None = None
    may_have_happened: bool = False
    key_is_spent: bool = False
    last_concluded: bool = False


@dataclass(frozen=True)
class Call:
    """A call that is about to be made."""

    question: int
    key_number: int


_EARLIER = Prepared(
    select(
        payment_calls.c.key_number,
        payment_calls.c.outcome,
        payment_calls.c.key_is_spent,
        payment_calls.c.asked_at,
        func.extract("epoch", func.clock_timestamp() - payment_calls.c.asked_at).label("age_s"),
    )
    .where(payment_calls.c.payment_id == bindparam("payment_id"), payment_calls.c.step == bindparam("step"))
    .order_by(payment_calls.c.question)
)
_BEGIN = Prepared(
    insert(payment_calls)
    .values(question=question_numbers.next_value(), **placed(payment_calls, "payment_id", "step", "key_number"))
    .returning(payment_calls.c.question)
)
_END = Prepared(
    update(payment_calls)
    .where(payment_calls.c.question == bindparam("of_question"))
    .values(answered_at=func.clock_timestamp(), **placed(payment_calls, "outcome", "code", "key_is_spent"))
)


async def earlier(connection: Connection, payment_id: UUID, step: str) -> Earlier:
    """Sum up the calls of one step (a refund's step carries its id)."""
    rows = await _EARLIER.rows(connection, payment_id=payment_id, step=step)
    if not rows:
        return Earlier()
    number = max(row["key_number"] for row in rows)
    under_this_key = [row for row in rows if row["key_number"] == number]
    return Earlier(
        key_number=number,
        first_age_s=float(under_this_key[0]["age_s"]),
        last_age_s=float(under_this_key[-1]["age_s"]),
        first_at=under_this_key[0]["asked_at"],
        last_at=under_this_key[-1]["asked_at"],
        may_have_happened=_may_have_happened([row["outcome"] for row in under_this_key]),
        key_is_spent=any(row["key_is_spent"] for row in under_this_key),
        last_concluded=rows[-1]["outcome"] in _CONCLUDED,
    )


def _may_have_happened(outcomes: list[str | None]) -> bool:
    """Tell whether the last definite word is missing; calls that stayed at home say nothing either way."""
    said = [outcome for outcome in outcomes if outcome != Outcome.NOT_SENT]
    return bool(said) and said[-1] in {None, Outcome.UNKNOWN}


async def begin(tx: Connection, payment_id: UUID, step: str, *, key_number: int) -> Call:
    """Write down that a call is about to be made."""
    question = await _BEGIN.value(tx, payment_id=payment_id, step=step, key_number=key_number)
    return Call(question, key_number)


async def end(tx: Connection, call: Call, outcome: Outcome, code: str, *, key_is_spent: bool) -> None:
    """Write down what came of it."""
    await _END.count(tx, of_question=call.question, outcome=outcome, code=code or None, key_is_spent=key_is_spent)


async def journal(connection: Connection, payment_id: UUID) -> Sequence[Row]:
    """Return every call that was made for a payment, in order."""
    found = await connection.execute(
        select(payment_calls.c.step, payment_calls.c.asked_at, payment_calls.c.outcome, payment_calls.c.code)
        .where(payment_calls.c.payment_id == payment_id)
        .order_by(payment_calls.c.question)
    )
    rows: Sequence[Row] = found.mappings().all()
    return rows
