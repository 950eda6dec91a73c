"""The database's clock jumps back, and forward again: a lease may look longer or shorter than it is, and epochs decide."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from payment_service.settings import PaymentSettings
from payment_service.states import BreakerName, BreakerState
from tests.answers import answered
from tests.doubles.jumping_clock import JumpingClock
from tests.payment.line_to_stripe import Meeting
from tests.payment.test_switchboard import processes
from tests.payment.till import Till, open_till
from tests.reservation.residue import assert_whole
from tests.reservation.saga_bench import Bench, Story, open_bench
from tests.reservation.test_saga_leases import Freezer
from tests.scenarios import fired

JUMPS_S = (5, 3600)
EVENT_LEASE_S = PaymentSettings.model_fields["webhook_lease_seconds"].default


@pytest.fixture
async def sagas_clock(reservation_database_url: str) -> AsyncIterator[JumpingClock]:
    """The clock of reservation_service's database."""
    clock = await JumpingClock.install(reservation_database_url)
    yield clock
    await clock.close()


@pytest.fixture
async def payments_clock(payment_database_url: str) -> AsyncIterator[JumpingClock]:
    """The clock of payment_service's database."""
    clock = await JumpingClock.install(payment_database_url)
    yield clock
    await clock.close()


async def paid_by_a_sleeper(bench: Bench, story: Story) -> tuple[Freezer, "asyncio.Task[bool]"]:
    """Let the guest pay, and the worker that captures fall asleep on the wire, its lease running."""
    await bench.convert(story)
    freezer = Freezer(bench, "capture")
    asleep = asyncio.create_task(bench.pay(story, engine=bench.another_engine()))
    await asyncio.wait_for(freezer.frozen.wait(), 10)
    return freezer, asleep


async def epochs_of(bench: Bench, story: Story) -> list[int]:
    saga = await bench.the_saga(story)
    lines = await bench.sql("SELECT epoch FROM saga_log WHERE saga_id = :id ORDER BY id", id=saga["id"])
    return [line["epoch"] for line in lines]


@pytest.mark.parametrize("by_s", JUMPS_S)
async def test_no_saga_has_two_workers_when_the_clock_jumps_back(
    reservation_database_url: str, sagas_clock: JumpingClock, by_s: int
) -> None:
    """T06, I16, I19: a lease only gets longer by it: nobody else has the saga, and its worker ends what it began."""
    async with open_bench(reservation_database_url) as bench:
        story, other = await bench.story(), bench.another_engine()
        freezer, asleep = await paid_by_a_sleeper(bench, story)
        await sagas_clock.jump(-by_s)
        assert await other.run_due() == 0
        await other.advance((await bench.the_saga(story))["id"])
        freezer.thaw()
        await asleep
        await assert_whole(bench, story, "confirmed", saga="completed")
        assert bench.payments.counted()["capture"] == 1
        await bench.assert_consistent()
    fired("T06", sagas_clock.jumped_back)


@pytest.mark.parametrize("by_s", JUMPS_S)
async def test_a_lease_that_was_taken_in_the_past_is_fenced(
    reservation_database_url: str, sagas_clock: JumpingClock, by_s: int
) -> None:
    """T06, C18, I19: taken while the clock was behind, a lease looks over when it is right again: the newer epoch writes."""
    async with open_bench(reservation_database_url) as bench:
        story, other = await bench.story(), bench.another_engine()
        await sagas_clock.jump(-by_s)
        freezer, asleep = await paid_by_a_sleeper(bench, story)
        await sagas_clock.jump(by_s + bench.settings.saga_lease_seconds)
        assert await other.run_due() == 1
        await other.drain(10)
        ended = await bench.journal(story)
        freezer.thaw()
        await asleep
        assert await bench.journal(story) == ended, "the sleeper has nothing to say any more"
        await assert_whole(bench, story, "confirmed", saga="completed")
        epochs = await epochs_of(bench, story)
        assert epochs == sorted(epochs)
        assert bench.entry(story).captures == 1
        await bench.assert_consistent()
    fired("T06", sagas_clock.jumped_back)


def stands_still(arrived: asyncio.Event, go_on: asyncio.Event) -> Meeting:
    """Answer only when it is said so."""

    async def meet(request: httpx.Request, sandbox: httpx.AsyncBaseTransport) -> Any:
        arrived.set()
        await go_on.wait()
        return await sandbox.handle_async_request(request)

    return meet


async def an_event_in_hand(till: Till) -> tuple[asyncio.Event, "asyncio.Task[int]"]:
    """Let a paid guest's event be taken up by a worker that then waits for Stripe."""
    payment = await till.created()
    await till.pay(payment)
    arrived, go_on = asyncio.Event(), asyncio.Event()
    till.line.meets(stands_still(arrived, go_on))
    await till.deliver_all("payment_intent.amount_capturable_updated")
    waiting = asyncio.create_task(till.process())
    await asyncio.wait_for(arrived.wait(), 10)
    return go_on, waiting


async def told_of(till: Till) -> list[str]:
    return [row["status"] for row in await till.sql("SELECT status FROM outbox ORDER BY version")]


@pytest.mark.parametrize("by_s", JUMPS_S)
async def test_no_event_has_two_workers_when_the_clock_jumps_back(
    payment_database_url: str,
    payments_clock: JumpingClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_s: int,
) -> None:
    """T06, I15: an event in hand stays in one hand, delivered again or not; its effect comes once, its news in order."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        go_on, waiting = await an_event_in_hand(till)
        await payments_clock.jump(-by_s)
        await till.deliver_all("payment_intent.amount_capturable_updated")
        assert await till.process() == 0
        go_on.set()
        assert await waiting == 1
        (row,) = await till.event_rows()
        assert (row["status"], row["reason"], row["deliveries"]) == ("processed", None, 2)
        assert await told_of(till) == ["requires_payment", "authorized"]
        assert await till.violated() == {}
    fired("T06", payments_clock.jumped_back)


async def test_an_event_taken_in_the_past_is_fenced(
    payment_database_url: str, payments_clock: JumpingClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T06, C18, I15: the clock is right again before its worker is done: another one does it, and the first says nothing."""
    async with open_till(payment_database_url, tmp_path, monkeypatch) as till:
        await payments_clock.jump(-3600)
        go_on, waiting = await an_event_in_hand(till)
        await payments_clock.jump(3600 + EVENT_LEASE_S)
        assert await till.process() == 1
        go_on.set()
        await waiting
        (row,) = await till.event_rows()
        assert (row["status"], row["reason"]) == ("processed", None)
        assert await told_of(till) == ["requires_payment", "authorized"]
        assert await till.tell_news() == 2
        assert await till.violated() == {}
    fired("T06", payments_clock.jumped_back)


async def test_an_age_is_never_less_than_nothing(
    payment_database_url: str, payments_clock: JumpingClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T06: what was done in the future was done just now: no gauge and no answer shows a negative time."""
    async with open_till(payment_database_url, tmp_path, monkeypatch, reconcile_settle_seconds=0) as till:
        answered(await till.admin("POST", "/reconciliation/run"), 202)
        await till.run("compare_with_stripe")
        await payments_clock.jump(-3600)
        await till.run("count_backlogs")
        page = (await till.http.get("/metrics")).text
        ages = [line for line in page.splitlines() if line.startswith("payment_reconciliation_age")]
        assert ages
        assert all(float(line.split()[-1]) >= 0 for line in ages), ages
    fired("T06", payments_clock.jumped_back)


async def test_one_probe_is_sent_when_the_clock_jumps_back(
    payment_database_url: str, payments_clock: JumpingClock
) -> None:
    """T06, S19: the right to try is a lease as well: whoever has it keeps it, and the others wait no less."""
    async with processes(payment_database_url) as start:
        one, two = start(probe_lease_s=15), start(probe_lease_s=15)
        await one.open()
        await two.board.share()
        await asyncio.sleep(one.policy.rest_s)
        one.calls = two.calls = 0
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def probe() -> Any:
            arrived.set()
            await go_on.wait()
            return await one.call()

        trying = asyncio.create_task(one.breaker.call(probe))
        await asyncio.wait_for(arrived.wait(), 10)
        await payments_clock.jump(-5)
        await two.board.share()
        assert {(await two.call()).code for _ in range(20)} == {"breaker_open"}
        assert two.calls == 0
        go_on.set()
        await trying
        await one.board.share()
        assert one.board.breakers[BreakerName.INTERACTIVE].state is BreakerState.CLOSED
    fired("T06", payments_clock.jumped_back)
