"""Every feature flag of this service: off changes comfort and recovery time, never whether seats and money are right."""

from shared.flags import Flag
from shared.telling import TELLING

SMART_IDEMPOTENCY = "smart_idempotency"
GROUP_ADMISSION = "group_admission"
LEAN_HOLD_DOOR = "lean_hold_door"
REPLACE_OWN_HOLD = "replace_own_hold"
DISTRIBUTED_LOCK = "distributed_lock"
RATE_LIMITING = "rate_limiting"
SAGA_ORCHESTRATION = "saga_orchestration"
HOLD_CLEANUP = "hold_cleanup"
SIGNED_INTERNAL_CALLS = "signed_internal_calls"

FLAGS = (
    Flag(SMART_IDEMPOTENCY, off_means="an expired or failed hold replays as it was, instead of being renewed"),
    Flag(GROUP_ADMISSION, off_means="the same statement, one hold at a time, each in its own transaction"),
    Flag(LEAN_HOLD_DOOR, off_means="every request for a hold goes the framework's ordinary way, which takes longer"),
    Flag(
        REPLACE_OWN_HOLD,
        off_means="a guest whose own abandoned hold is in the way is refused like anybody else, until that hold is over",
    ),
    Flag(
        DISTRIBUTED_LOCK,
        off_means="no lock in Redis around a group of holds; the slot's row decides, as it always does",
    ),
    Flag(RATE_LIMITING, off_means="nobody is counted or turned away, and no `RateLimit` headers are sent"),
    Flag(
        SAGA_ORCHESTRATION,
        off_means="same journal, but forward steps are driven by requests and webhooks only; deadlines and unwinding run",
    ),
    Flag(HOLD_CLEANUP, off_means="no sweeper; expired seats are still free on demand"),
    Flag(SIGNED_INTERNAL_CALLS, off_means="a shared bearer secret instead of signatures, never anonymous"),
    *TELLING,
)

FROZEN_WITH_SAGA = (SAGA_ORCHESTRATION,)
"""Flags that a saga keeps as they were when it started."""
