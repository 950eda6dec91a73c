"""What happens because the sandbox's time has passed: windows close, debits arrive, refunds settle."""

from collections.abc import Callable

from . import confirming, payment_intents, refunds
from .turn import Turn

ACTIONS: dict[str, Callable[[Turn, str], None]] = {
    "expire_authorisation": payment_intents.expire,
    "settle_payment": confirming.settle,
    "settle_refund": refunds.settle,
}


def run_due(turn: Turn) -> int:
    """Do what is due by `turn.now`, oldest first, and return how many things that were."""
    due = turn.state.run(
        "SELECT id, action, object_id FROM timers WHERE due <= ? ORDER BY due, id", turn.now
    ).fetchall()
    for timer_id, action, object_id in due:
        turn.state.run("DELETE FROM timers WHERE id = ?", timer_id)
        ACTIONS[action](turn, object_id)
    return len(due)
