"""The audit of the audit that joins three books: each check is shown what it is there to find, and it alone says so."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.cli.audit import run
from deploy.cli.three_way import CHECKS, Books, Comparison, both, compare

NOW = datetime(2026, 11, 25, tzinfo=UTC)
OLD = (NOW - timedelta(hours=1)).isoformat()
Shelf = dict[str, list[dict[str, Any]]]


def shelf() -> Shelf:
    """Return books that agree: one booking that is paid, one that was paid and given back, one that was called off."""
    return {
        "bookings": [
            booking("b1", "confirmed"),
            booking("b2", "cancelled", refund_due=4500),
            booking("b3", "failed", payment_status="canceled"),
        ],
        "payments": [
            payment("p1", "b1", "captured", balance=4500),
            payment("p2", "b2", "refunded", refunded=4500, refunds=[refund("r2")]),
            payment("p3", "b3", "canceled", captured=0),
        ],
        "intents": [
            intent("p1", "captured"),
            intent("p2", "captured"),
            intent("p3", "canceled", received=0),
        ],
        "refunds": [{"id": "re_r2", "payment_intent": "pi_p2", "amount": 4500, "status": "succeeded"}],
        "disputes": [],
    }


def booking(name: str, status: str, **changed: Any) -> dict[str, Any]:
    values = {
        "id": name,
        "status": status,
        "total": 4500,
        "currency": "EUR",
        "payment_mode": "stripe",
        "generation": 1,
        "payment_version": 3,
        "payment_status": "captured",
        "refund_due": None,
        "open_case": False,
        "in_hand": False,
        "unchanged_s": 3600.0,
    }
    return values | changed


def payment(name: str, of: str, status: str, **changed: Any) -> dict[str, Any]:
    values = {
        "id": name,
        "reservation_id": of,
        "generation": 1,
        "version": 3,
        "status": status,
        "amount": 4500,
        "currency": "EUR",
        "captured": 4500,
        "refunded": 0,
        "refunds": [],
        "disputed": 0,
        "balance": 0,
        "stripe_payment_intent_id": f"pi_{name}",
        "unchanged_s": 3600.0,
    }
    return values | changed


def refund(name: str, **changed: Any) -> dict[str, Any]:
    return {"id": name, "amount": 4500, "status": "succeeded", "stripe_refund_id": f"re_{name}"} | changed


def intent(of: str, status: str, **changed: Any) -> dict[str, Any]:
    values = {
        "id": f"pi_{of}",
        "payment_id": of,
        "status": status,
        "amount": 4500,
        "currency": "EUR",
        "received": 4500,
        "created_at": OLD,
    }
    return values | changed


def judged(books: Shelf, *, settle_s: float = 60.0) -> Comparison:
    return compare(Books(**books), settle_s=settle_s, now=NOW)


def violated(books: Shelf) -> dict[str, list[str]]:
    return {one.id: one.examples for one in judged(books).findings if one.examples}


def _second_payment(books: Shelf) -> None:
    books["payments"].append(payment("p4", "b1", "captured", balance=4500, generation=0))
    books["intents"].append(intent("p4", "captured"))


def _kept_for_a_dead_booking(books: Shelf) -> None:
    books["payments"][1] |= {"status": "captured", "refunds": [], "refunded": 0, "balance": 4500}
    books["refunds"].clear()


def _refund_failed(books: Shelf) -> None:
    books["payments"][1] |= {
        "status": "refund_failed", "refunded": 0, "balance": 4500, "refunds": [refund("r2", status="failed")],
    }  # fmt: skip
    books["refunds"][0]["status"] = "failed"


def _too_little_went_back(books: Shelf) -> None:
    books["payments"][1] |= {
        "status": "partially_refunded", "refunded": 4000, "balance": 500, "refunds": [refund("r2", amount=4000)],
    }  # fmt: skip
    books["refunds"][0]["amount"] = 4000


def _confirmed_unpaid(books: Shelf) -> None:
    books["payments"][0] |= {"captured": 0, "status": "canceled", "balance": 0}
    books["intents"][0] |= {"status": "canceled", "received": 0}


def _other_price(books: Shelf) -> None:
    books["bookings"][0]["total"] = 4400


def _ledger_differs(books: Shelf) -> None:
    books["payments"][0]["balance"] = 4400


def _disputed_unheard(books: Shelf) -> None:
    books["disputes"].append({"id": "du_1", "payment_intent": "pi_p1", "amount": 4500, "status": "open"})


def _stranger(books: Shelf) -> None:
    books["intents"].append(intent("p9", "captured"))


def _another_state(books: Shelf) -> None:
    books["payments"][2]["status"] = "requires_payment"


def _vanished(books: Shelf) -> None:
    books["intents"].pop(2)


def _refund_unknown_to_us(books: Shelf) -> None:
    books["refunds"].append({"id": "re_hand", "payment_intent": "pi_p1", "amount": 1, "status": "failed"})


def _stranded(books: Shelf) -> None:
    books["payments"][2]["status"] = "authorized"
    books["intents"][2]["status"] = "authorized"


def _unheard(books: Shelf) -> None:
    books["payments"][0]["version"] = 4


PLANTED: dict[str, tuple[Callable[[Shelf], None], str, str]] = {
    "paid twice": (_second_payment, "I4", "b1"),
    "captured and the booking is dead": (_kept_for_a_dead_booking, "I5", "b2"),
    "a refund that failed and nobody was asked": (_refund_failed, "I5", "b2"),
    "less went back than was due": (_too_little_went_back, "I5", "b2"),
    "confirmed without money": (_confirmed_unpaid, "I6", "b1"),
    "another price": (_other_price, "I7", "b1"),
    "the ledger says something else": (_ledger_differs, "I8", "b1"),
    "a dispute that nobody heard of": (_disputed_unheard, "I8", "b1"),
    "an intent that nobody knows": (_stranger, "I10", "pi_p9"),
    "another state at Stripe": (_another_state, "I10", "b3"),
    "an intent that Stripe does not know": (_vanished, "I10", "b3"),
    "a refund that we do not know": (_refund_unknown_to_us, "I10", "b1"),
    "an authorisation left open": (_stranded, "I11", "b3"),
    "news that was not heard": (_unheard, "I27", "b1"),
}


def test_books_that_agree() -> None:
    """Nothing is found, everything was judged, and the same books give the same words."""
    found = judged(shelf())
    assert (violated(shelf()), found.judged, found.in_flight) == ({}, 3, [])
    assert [one.id for one in found.findings] == [check_id for check_id, _, _ in CHECKS]
    assert judged(shelf()) == found


@pytest.mark.parametrize("what", PLANTED)
def test_each_check_finds_what_it_is_for(what: str) -> None:
    """I4..I8, I10, I11, I27: one thing is made untrue, and exactly that check names exactly that case."""
    plant, check_id, case = PLANTED[what]
    books = shelf()
    plant(books)
    assert violated(books) == {check_id: [case]}


def test_every_check_has_its_violation() -> None:
    """A check that was never seen to find anything proves nothing."""
    assert {check_id for _, check_id, _ in PLANTED.values()} == {check_id for check_id, _, _ in CHECKS}


def test_a_case_for_a_person_is_no_violation() -> None:
    """I5: money whose refund failed and that somebody was asked to look at is an open case, not a lost one."""
    books = shelf()
    _refund_failed(books)
    books["bookings"][1]["open_case"] = True
    assert violated(books) == {}


@pytest.mark.parametrize("kind", ["bookings", "payments"])
def test_what_changed_lately_is_listed_and_not_judged(kind: str) -> None:
    """A row younger than a minute may have moved between two readings; with patience it is judged."""
    books = shelf()
    _unheard(books)
    books[kind][0]["unchanged_s"] = 59.0
    found = judged(books)
    assert (violated(books), found.in_flight, found.judged) == ({}, ["b1"], 2)
    assert [one.id for one in judged(books, settle_s=5).findings if one.examples] == ["I27"]


def test_an_orphan_that_is_over_is_no_violation() -> None:
    """I10: an intent that nobody knows and that was cancelled, or whose money went back, is told once and then over."""
    books = shelf()
    books["intents"] += [intent("p8", "canceled", received=0), intent("p9", "captured")]
    assert violated(books) == {"I10": ["pi_p9"]}
    books["refunds"].append({"id": "re_9", "payment_intent": "pi_p9", "amount": 4500, "status": "succeeded"})
    assert violated(books) == {}


def test_a_young_intent_may_not_have_its_row_yet() -> None:
    """I10: Stripe may show an intent before our answer is written down."""
    books = shelf()
    books["intents"].append(intent("p9", "requires_payment", received=0, created_at=NOW.isoformat()))
    assert judged(books).in_flight == ["pi_p9"]
    assert violated(books) == {}


def test_what_a_second_look_does_not_see_was_on_its_way() -> None:
    """The books are read one after the other: only what both readings found is a violation."""
    bad, good = shelf(), shelf()
    _unheard(bad)
    assert [one.examples for one in both(judged(bad), judged(good)).findings if one.examples] == []
    assert [one.examples for one in both(judged(bad), judged(bad)).findings if one.examples] == [["b1"]]


def served(readings: list[Shelf]) -> Callable[[str, str], Any]:
    """Return a stand-in for both services that shows one reading after the other, in pages of one row."""
    left = deepcopy(readings)

    def get(service: str, path: str) -> Any:
        if path == "/admin/v1/invariants":
            return {"checks": [{"id": "x", "title": "x", "violations": 0, "examples": []}]}
        address, _, after = path.partition("&starting_after=")
        names = {"reservation": "bookings", "payment": "payments"}
        books = {"payment_intents": "intents", "refunds": "refunds", "disputes": "disputes"}
        name = books.get(address.partition("book=")[2], names[service])
        rows = left[0][name]
        if name == "disputes":
            left.append(left.pop(0))  # the last book of a reading
        at = int(after or 0)
        return {"data": rows[at : at + 1], "has_more": at + 1 < len(rows), "next_cursor": str(at + 1)}

    return get


def test_an_audit_reads_all_pages_and_looks_twice() -> None:
    """Every row of every book counts; a disagreement is confirmed by reading everything once more."""
    bad = shelf()
    _unheard(bad)
    assert run(served([shelf(), shelf()]), settle_s=60).violated == 0
    assert run(served([bad, shelf()]), settle_s=60).violated == 0
    found = run(served([bad, bad]), settle_s=60)
    assert [(check.service, check.id, check.examples) for check in found.checks if check.violations] == [
        ("three-way", "I27", ["b1"])
    ]
