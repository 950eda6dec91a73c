"""What a hold and a booking cost, in figures that do not depend on the machine: counted on the wires, and exact.

A change that makes one of these larger makes everything slower, on every machine; then the new figure is written here
on purpose, in the commit that explains it, and on the page.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.embedded.postgres import Postgres
from payment_service.store import idempotency, webhook_events
from reservation_service.booking.tidying import KeyBroom
from reservation_service.store import hold_lane
from tests.answers import answered
from tests.costs.full_tables import PAYMENT_TABLES, RESERVATION_TABLES, fill, payment_sql, reservation_sql
from tests.costs.pair import Cost, Pair, open_pair
from tests.costs.plans import plan_of, read_whole
from tests.costs.postgres_wire import Passed
from tests.figures import tell

_PAGE = Path(__file__).parents[2] / "docs/explanation/performance.md"
_WARM_UPS = 2
_TIMES = 5
_ROWS = 20_000

# service: statements, round trips, commits; then calls between the services and to Stripe
HOLD = {"reservation": (1, 1, 1), "payment": (0, 0, 0), "calls": (0, 0)}
BOOKING = {"reservation": (34, 44, 6), "payment": (31, 41, 13), "calls": (3, 2)}
HOLD_WAL_BYTES_MAX = 2_300
BOOKING_WAL_BYTES_MAX = 31_000
_COMMITS_OF_A_HUNDRED_MAX = 5


@pytest.fixture(scope="module")
async def pair(
    postgres: Postgres, reservation_template: str, payment_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    """Both services on full tables, their connections warm: every statement has been prepared once."""
    names = {service: f"costs_{uuid4().hex}" for service in ("reservation", "payment")}
    for service, template in (("reservation", reservation_template), ("payment", payment_template)):
        postgres.create_database(names[service], template=template)
    async with open_pair(postgres, names, Path(tmp_path_factory.mktemp("costs"))) as pair:
        await fill(pair.meters.direct["reservation"], reservation_sql(_ROWS), RESERVATION_TABLES)
        await fill(pair.meters.direct["payment"], payment_sql(_ROWS // 10), PAYMENT_TABLES)
        offer = await pair.office.offer(capacity=100)
        for _ in range(_WARM_UPS):
            await pair.book(pair.office.customer(), offer)
        yield pair
    for name in names.values():
        postgres.drop_database(name)


def counted(cost: Cost) -> dict[str, tuple[int, ...]]:
    return {
        "reservation": _figures(cost.reservation),
        "payment": _figures(cost.payment),
        "calls": (cost.internal_calls, cost.stripe_calls),
    }


def _figures(passed: Passed) -> tuple[int, int, int]:
    return passed.statements, passed.trips, passed.commits


def _texts(passed: Passed) -> list[str]:
    return [f"  {times} x {' '.join(sql.split())[:150]}" for sql, times in passed.texts.most_common()]


def cheapest(costs: list[Cost]) -> Cost:
    """Return the cost that nothing else happened beside: a ticker, a price list that had to be read again."""
    return min(costs, key=lambda cost: (cost.reservation.statements + cost.payment.statements, cost.wal_bytes))


async def test_what_a_hold_costs(pair: Pair) -> None:
    """One statement, one trip, one commit; nothing else is asked, and nobody is told."""
    offer, costs = await pair.office.offer(capacity=100), list[Cost]()
    for _ in range(_TIMES + 1):
        customer, before = pair.office.customer(), await pair.spent()
        answered(await customer.hold(offer), 201)
        costs.append(await pair.spent() - before)
    cost = cheapest(costs)
    tell(f"a hold: {cost}")
    assert counted(cost) == HOLD
    assert list(cost.reservation.texts) == [hold_lane._SQL]
    assert min(cost.wal_bytes for cost in costs) <= HOLD_WAL_BYTES_MAX


async def test_a_crowd_shares_its_commits(pair: Pair) -> None:
    """A hundred guests at once: one statement for each, and a few trips and commits for all of them."""
    offer, customers = await pair.office.offer(capacity=100), [pair.office.customer() for _ in range(100)]
    before = await pair.spent()
    for answer in await asyncio.gather(*(customer.hold(offer) for customer in customers)):
        answered(answer, 201)
    spent = (await pair.spent() - before).reservation
    tell(f"a hundred holds at once: {spent}")
    assert spent.texts[hold_lane._SQL] == 100
    assert 1 <= spent.commits <= _COMMITS_OF_A_HUNDRED_MAX


async def test_what_a_booking_costs(pair: Pair) -> None:
    """Hold, convert, pay, confirmed, captured, everybody told; one thing after the other."""
    offer, costs = await pair.office.offer(capacity=100), list[Cost]()
    await pair.book(pair.office.customer(), offer)
    for _ in range(_TIMES):
        customer, before = pair.office.customer(), await pair.spent()
        await pair.book(customer, offer)
        costs.append(await pair.spent() - before)
    cost = cheapest(costs)
    tell(f"a booking: {cost}")
    print("\n".join(map(str, costs)), *_texts(cost.reservation), *_texts(cost.payment), sep="\n")
    assert counted(cost) == BOOKING
    assert min(cost.wal_bytes for cost in costs) <= BOOKING_WAL_BYTES_MAX


async def test_nothing_reads_a_whole_table(pair: Pair) -> None:
    """No statement of a booking, and none that tidies up, reads a table with rows from end to end, whatever its parameters."""
    before = await pair.spent()
    await pair.book(pair.office.customer(), await pair.office.offer(capacity=100))
    await pair.office.sweep()
    await KeyBroom(pair.office.parts.database, pair.office.parts.metrics, keep_days=30).sweep()
    for forget in (idempotency.forget, webhook_events.forget):
        async with pair.payment_database.transaction("look_at_brooms") as tx:
            await forget(tx, older_than_days=30, limit=500)
    spent = await pair.spent() - before
    seen, found = 0, list[str]()
    for service, passed in (("reservation", spent.reservation), ("payment", spent.payment)):
        for sql in passed.texts:
            if not sql.lstrip().upper().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
                continue
            seen += 1
            plan = await plan_of(pair.meters.direct[service], sql)
            whole = {*RESERVATION_TABLES, *PAYMENT_TABLES}.intersection(read_whole(plan))
            if whole:
                found.append(f"{service} reads all of {sorted(whole)}: {' '.join(sql.split())[:400]}")
    tell(f"plans looked at: {seen}")
    assert seen > 40
    assert not found, "\n".join(found)


async def test_a_plan_without_an_index_would_be_seen(pair: Pair) -> None:
    """The look at plans is no fiction: a question that no index answers reads the whole table, one that has one does not."""
    connection = pair.meters.direct["reservation"]
    by_nothing = await plan_of(connection, "SELECT id FROM reservations WHERE total_minor = $1 + 1")
    by_key = await plan_of(connection, "SELECT id FROM reservations WHERE id = $1")
    assert list(read_whole(by_nothing)) == ["reservations"]
    assert list(read_whole(by_key)) == []


@pytest.mark.parametrize(("what", "figures"), [("a hold", HOLD), ("a booking that goes well", BOOKING)])
def test_the_page_says_the_same(what: str, figures: dict[str, tuple[int, ...]]) -> None:
    """The page shows the figures that these tests demand."""
    cells = [" / ".join(map(str, figures[service])) for service in ("reservation", "payment")]
    assert f"| {what} | {cells[0]} | {cells[1]} | {figures['calls'][0]} | {figures['calls'][1]} |" in _PAGE.read_text()
