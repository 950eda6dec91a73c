"""News of payments reaches reservation_service at least once, in full, however long it is away."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from payment_service.flags import SIGNED_INTERNAL_CALLS
from payment_service.store import outbox
from shared import crashpoints
from shared.flags import Override
from shared.payment_contract import KnownVersion, PaymentStatus
from tests.payment.till import BEARER, Till, open_till
from tests.scenarios import fired


async def waiting(till: Till) -> int:
    async with till.parts.database.reading() as connection:
        return await outbox.backlog(connection)


async def test_news_tells_the_whole_payment(till: Till) -> None:
    """The full state, under a key of payment and version, and nothing that only the guest may have."""
    payment = await till.authorized()
    await till.tell_news()
    (event,) = till.neighbour.told
    assert (event.payment_id, event.reservation_id, event.generation) == (payment.id, payment.reservation_id, 1)
    assert (event.status, event.version, event.amount) == (PaymentStatus.AUTHORIZED, 2, 4500)
    assert event.capture_before == payment.capture_before
    assert till.neighbour.keys == [f"{payment.id}:2"]
    assert await waiting(till) == 0
    (row,) = await till.sql("SELECT string_agg(event::text, '') AS all FROM outbox")
    assert payment.client_secret not in row["all"]


async def test_only_the_newest_news_of_a_payment_is_sent(till: Till) -> None:
    """An older version has nothing to add; it is marked as superseded, not lost."""
    await till.captured()
    await till.tell_news()
    assert [event.status for event in till.neighbour.told] == [PaymentStatus.CAPTURED]
    rows = await till.sql("SELECT receipt FROM outbox ORDER BY version")
    assert [row["receipt"] for row in rows] == ["superseded", "superseded", "applied"]


@pytest.fixture
async def patient(till_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Till]:
    """payment_service as in production: what an answer has said is not told at once."""
    async with open_till(till_database_url, tmp_path, monkeypatch, outbox_answered_wait_s=30.0) as till:
        await till.sweep()
        yield till
        assert await till.violated() == {}


async def test_what_an_answer_has_said_is_told_when_nobody_says_it_is_known(patient: Till) -> None:
    """I27: create and capture have answered; an older neighbour, or one that died over it, is told all the same, later."""
    payment = await patient.created()
    assert await patient.tell_news() == 0
    await patient.pay(payment)
    await patient.seen(payment.id)
    assert await patient.tell_news() == 1  # what the guest's bank did was no answer to a create
    await patient.client.capture(payment.id)
    assert await patient.tell_news() == 0
    await patient.make_all_due()
    assert await patient.tell_news() == 1
    assert [event.status for event in patient.neighbour.told] == [PaymentStatus.AUTHORIZED, PaymentStatus.CAPTURED]
    assert await waiting(patient) == 0


async def test_what_a_receipt_says_is_known_is_not_told(patient: Till) -> None:
    """The neighbour has stored two payments from answers: exactly that is finished, in the statement that is due anyway."""
    captured, created, unheard = await patient.captured(), await patient.created(), await patient.created()
    await patient.tell_news()
    patient.neighbour.known = [
        KnownVersion(payment_id=captured.id, version=captured.version),
        KnownVersion(payment_id=created.id, version=created.version),
    ]
    await patient.authorized()
    await patient.tell_news()
    rows = await patient.sql("SELECT payment_id, version, receipt FROM outbox ORDER BY created_at")
    receipts = {(row["payment_id"], row["version"]): row["receipt"] for row in rows}
    assert receipts[captured.id, captured.version] == receipts[created.id, created.version] == "known"
    assert receipts[unheard.id, unheard.version] is None
    told = [event.payment_id for event in patient.neighbour.told]
    assert unheard.id not in told
    patient.neighbour.known = []
    await patient.make_all_due()
    await patient.tell_news()
    assert patient.neighbour.told[-1].payment_id == unheard.id
    assert await waiting(patient) == 0


async def test_a_receipt_covers_no_newer_version(patient: Till) -> None:
    """What happened after the answer is news, whatever the receipt says of older versions."""
    payment = await patient.created()
    await patient.pay(payment)
    patient.neighbour.trouble.append(503)
    await patient.seen(payment.id)
    await patient.tell_news()  # the authorisation is not heard
    patient.neighbour.known = [KnownVersion(payment_id=payment.id, version=payment.version)]
    await patient.authorized()
    await patient.tell_news()
    assert await waiting(patient) == 1
    patient.neighbour.known = []
    await patient.make_all_due()
    await patient.tell_news()
    assert (patient.neighbour.told[-1].payment_id, patient.neighbour.told[-1].version) == (payment.id, 2)


@pytest.mark.parametrize("trouble", [httpx.ConnectError("away"), httpx.ReadTimeout("slow"), 503, 401, 404])
async def test_news_never_dies(till: Till, trouble: int | Exception) -> None:
    """I27: whatever the neighbour does, the row waits, longer each time but at most a minute, and then arrives."""
    await till.created()
    for _ in range(12):
        till.neighbour.trouble.append(trouble)
        await till.make_all_due()
        assert await till.tell_news() == 1
    assert till.neighbour.told == []
    (row,) = await till.sql("SELECT last_error, extract(epoch FROM due_at - clock_timestamp()) AS wait_s FROM outbox")
    assert 25 < float(row["wait_s"]) < 60.1
    assert row["last_error"] == (f"HTTP_{trouble}" if isinstance(trouble, int) else type(trouble).__name__)
    assert await till.tell_news() == 0
    await till.make_all_due()
    await till.tell_news()
    assert len(till.neighbour.told) == 1
    assert await waiting(till) == 0


async def test_an_unreadable_receipt_is_none(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 with a page of some proxy is no receipt: the news is told again."""
    await till.created()
    till.neighbour.trouble.append(200)
    await till.tell_news()
    assert await waiting(till) == 1


async def test_a_relay_that_dies_after_telling_tells_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """C19: told, and the process ends before it is written down: told twice, with the same key."""

    class Ended(BaseException):
        """The process ends here."""

    def end() -> None:
        raise Ended

    payment = await till.created()
    monkeypatch.setattr(crashpoints, "_armed", None)
    crashpoints.arm("post_payment_event.after", end)
    with pytest.raises((Ended, BaseExceptionGroup)):
        await till.tell_news()
    crashpoints.arm(None)
    await till.sql("UPDATE outbox SET lease_until = NULL")
    await till.tell_news()
    assert till.neighbour.keys == [f"{payment.id}:1"] * 2
    fired("C19", len(till.neighbour.keys) - 1)


async def test_without_signing_the_shared_secret_is_sent(till: Till) -> None:
    """`signed_internal_calls` off on this side: a bearer secret instead, never nothing."""
    await till.created()
    await till.tell_news()
    override = Override(enabled=False)
    await till.parts.flags.set(till.parts.database, SIGNED_INTERNAL_CALLS, override, by="olga", reason="test")
    await till.created()
    await till.tell_news()
    assert till.neighbour.authorization == [None, f"Bearer {BEARER}"]
