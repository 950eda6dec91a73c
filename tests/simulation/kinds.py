"""Kinds of worlds: what chance alone would bring together too seldom, each told in a share of the seeds of its own.

A kind says what is different from what was drawn. Most seeds are of no kind: there anything may meet anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.simulation.guests import Story
from tests.simulation.wire import Trouble

Change = dict[str, Any]
"""Fields of a plan, and what they are instead."""

_CALM = Trouble()


def _pays_well(story: Story, random: Random) -> Story:
    """Return the same guest, who now means it: converts at once and pays with a good card."""
    return replace(
        story,
        waits_before_converting_s=0.0,
        converts=True,
        gives_back=False,
        extends=False,
        pays_elsewhere=False,
        cards=("good",),
        ponders_s=random.choice((0.0, 0.5, 5.0)),
    )


def _paid(plan: Any, random: Random) -> Change:
    """Let every guest pay, and nobody but banks and people decide what becomes of the money."""
    return {
        "stories": tuple(_pays_well(story, random) for story in plan.stories),
        "crash": 0.0,
        "weather": 0.0,
        "creation_refused": 0.0,
        "authorization_lasts_s": 7 * 86_400.0,
        "price_minor": 2400,
        "trouble": dict.fromkeys(plan.trouble, _CALM),
    }


def stripe_breaks_off(plan: Any, random: Random) -> Change:
    """Stripe does as it is asked, and is gone before it has said so: for seconds, or for longer than a guest may pay."""
    return _paid(plan, random) | {
        "trouble": plan.trouble | {"stripe": replace(_CALM, breaks_off=0.3)},
        "chaos_s": 120.0,
        "disturbance_every_s": 60.0,
        "off": plan.off - {"payment_retries"},
    }


def aftermath(plan: Any, random: Random) -> Change:
    """All is paid and confirmed; then banks take money back, and what is told of that gets lost, or comes very late."""
    return _paid(plan, random) | {
        "trouble": dict.fromkeys(plan.trouble, _CALM)
        | {
            "to_reservation": Trouble(refused=0.2, lost=0.2, late=0.2),
            "to_payment": Trouble(answer_late=0.4),
        },
        "chaos_s": 400.0,
        "banks_pace": random.choice((0.1, 0.3, 1.0)),
        "disputed": 0.7,
        "refunded_by_hand": 0.5,
    }


def swift_banks(plan: Any, random: Random) -> Change:
    """Banks and people make up their minds faster than Stripe's news of it travels: every look finds another picture."""
    stories = _paid(plan, random)["stories"]
    return _paid(plan, random) | {
        "stories": tuple(replace(story, cancels_after_s=random.choice((1.0, 5.0, 15.0, None))) for story in stories),
        "trouble": dict.fromkeys(plan.trouble, _CALM) | {"webhooks": Trouble(late=0.3, lost=0.2)},
        "chaos_s": 30.0,
        "disturbance_every_s": 1e9,
        "banks_pace": random.choice((0.01, 0.02)),
        "banks_decide_s": (0.5,),
        "inquiries": 0.6,
        "disputed": random.choice((0.0, 0.9, 0.9)),
        "refunded_by_hand": 0.6,
        "refund_fails": 0.5,
        "refund_trouble": 0.5,
        "cancellation_policy": random.choice((plan.cancellation_policy, {"type": "free"})),
    }


def sudden_banks(plan: Any, random: Random) -> Change:
    """Banks ask first, and whatever they take they have judged about at once: that they took it is seen by nobody."""
    return _paid(plan, random) | {
        "trouble": dict.fromkeys(plan.trouble, _CALM),
        "chaos_s": 400.0,
        "disturbance_every_s": 1e9,
        "banks_pace": 0.3,
        "banks_decide_s": (0.001,),
        "inquiries": 0.8,
        "disputed": 1.0,
        "refund_trouble": 0.5,
        "refunded_by_hand": 1.0,
    }


def slow_transfers(plan: Any, random: Random) -> Change:
    """Guests try their bank again and again, and it takes its time each time before it says no."""
    stories = tuple(
        replace(
            story,
            cards=(*random.choice((("slow", "asks", "slow", "asks"), ("asks", "slow", "asks"))), "good"),
            ponders_s=0.0,
            bank_takes_s=random.choice((5.0, 5.0, 60.0)),
        )
        for story in _paid(plan, random)["stories"]
    )
    return _paid(plan, random) | {"stories": stories, "trouble": plan.trouble | {"guests": _CALM, "to_payment": _CALM}}


def busy_desk(plan: Any, random: Random) -> Change:
    """Operators take bookings back while their money is being taken, and the money does not go back: they think again."""
    stories = _paid(plan, random)["stories"]
    return _paid(plan, random) | {
        "stories": tuple(replace(story, cancels_after_s=None, ponders_s=0.0) for story in stories),
        "trouble": dict.fromkeys(plan.trouble, _CALM)
        | {"to_payment": Trouble(answer_lost=0.7), "to_reservation": Trouble(late=0.8)},
        "disturbance_every_s": 12.0,
        "disturbances": ("look_at_a_saga", "unwind"),
        "chaos_s": 60.0,
        "refund_fails": 1.0,
        "refunded_by_hand": 0.7,
        "capture_method": "manual",
    }


KINDS: tuple[tuple[int, int, Callable[[Any, Random], Change]], ...] = (
    (64, 0, stripe_breaks_off),
    (64, 1, aftermath),
    (64, 3, slow_transfers),
    (16, 2, swift_banks),
    (16, 4, busy_desk),
    (16, 6, sudden_banks),
)
"""Of so many seeds one, with this remainder: as many as it takes to see everything that is demanded in 5,000 worlds."""


def change_of(seed: int, plan: Any, random: Random) -> Change:
    """Return what a seed's kind changes; nothing for most."""
    kind = next((kind for modulus, remainder, kind in KINDS if seed % modulus == remainder), None)
    return kind(plan, random) if kind else {}
