"""Reading a journal is pure, so every history can be tried: nothing done twice, nothing that started left standing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reservation_service.saga.definition import Event, LocalStep, Pause, RemoteStep, Saga
from reservation_service.saga.journal import Journal, Line
from reservation_service.saga.reservation_saga import reservation_saga
from reservation_service.saga.steps import Steps

PAGE: Saga = reservation_saga(Steps(None, async_payment_max_s=0))  # type: ignore[arg-type]  # nothing is called here
NAMES = [part.name for part in PAGE.parts]
REMOTE = [part.name for part in PAGE.parts if isinstance(part, RemoteStep)]
LOCAL = [part.name for part in PAGE.parts if isinstance(part, LocalStep)]


def journal(*lines: str) -> Journal:
    """Read lines such as `capture_payment do started`."""
    return Journal([Line(*line.split()) for line in lines])


def next_back(*lines: str) -> str | None:
    step = journal(*lines).next_backward(PAGE)
    return step.name if step else None


def test_the_page_is_the_brief_s_table() -> None:
    """The five parts in their order, with their undos; capture is the only pivot."""
    assert NAMES == [
        "create_hold",
        "create_payment_intent",
        "payment_authorized",
        "capture_payment",
        "confirm_reservation",
    ]
    undone_by = {part.name: part.undo.__name__ for part in PAGE.parts if not isinstance(part, Pause)}
    assert undone_by == {
        "create_hold": "release_hold",
        "create_payment_intent": "cancel_payment_intent",
        "capture_payment": "refund_payment",
        "confirm_reservation": "cancel_reservation",
    }
    assert [part.name for part in PAGE.parts if isinstance(part, RemoteStep) and part.pivot] == ["capture_payment"]


def test_the_table_is_rendered_from_the_page() -> None:
    """One row for each part, four columns, the pause in italics."""
    rows = PAGE.render_table().splitlines()
    assert len(rows) == 2 + len(NAMES)
    assert all(row.count(" | ") == 3 for row in rows if "---" not in row)
    assert "| *pause: payment_authorized* |" in PAGE.render_table()
    for name, row in zip(NAMES, rows[2:], strict=True):
        assert name in row


def test_forward_is_the_first_part_not_done() -> None:
    """Started, refused or unknown is not done; the same step comes again."""
    lines: list[str] = []
    for name in NAMES:
        for event in ("started", "unknown", "not_sent", "too_late"):
            part = journal(*lines, f"{name} do {event}").next_forward(PAGE)
            assert part is not None
            assert part.name == name
        lines.append(f"{name} do done")
    assert journal(*lines).next_forward(PAGE) is None


def test_what_was_never_sent_is_not_undone() -> None:
    """S17: each start answered by `not_sent` had no effect; one start without an answer may have had one."""
    held = "create_hold do done"
    start, not_sent = "create_payment_intent do started", "create_payment_intent do not_sent"
    assert next_back(held, start, not_sent, start, not_sent) == "create_hold"
    assert next_back(held, start, not_sent, start) == "create_payment_intent"
    assert next_back(held, start, start, not_sent) == "create_payment_intent"  # it died once in between
    assert next_back(held, start, "create_payment_intent do unknown", start, not_sent) == "create_payment_intent"
    assert next_back(held, start, "create_payment_intent do refused") == "create_payment_intent"


def test_undoing_goes_backwards_and_ends() -> None:
    """The payment is cancelled before the seats are released, and each undo is needed once."""
    lines = ["create_hold do done", "create_payment_intent do started", "create_payment_intent do done"]
    lines += ["payment_authorized do done", "capture_payment do started", "capture_payment do refused"]
    for step in ("capture_payment", "create_payment_intent", "create_hold"):
        assert next_back(*lines) == step
        lines += [f"{step} undo started", f"{step} undo unknown"]
        assert next_back(*lines) == step
        lines += [f"{step} undo done"]
    assert next_back(*lines) is None


def test_failures_in_a_row() -> None:
    """C20: crashes count nothing, another result starts the count anew, and each direction counts for itself."""
    step = "capture_payment"
    trouble = [f"{step} do started", f"{step} do unknown", f"{step} do started", f"{step} do not_sent"]
    assert journal(*trouble, f"{step} do started").failures(step, "do") == 2
    assert journal(*trouble, "payment_authorized do done").failures(step, "do") == 2
    assert journal(*trouble, f"{step} do done").failures(step, "do") == 0
    assert journal(*trouble, f"{step} do too_late", f"{step} do unknown").failures(step, "do") == 1
    assert journal(*trouble).failures(step, "undo") == 0


def test_what_was_undone_may_begin_anew() -> None:
    """An undone step is as if it had never been: it comes again going forward, and only a new start is undone again."""
    step = "create_payment_intent"
    lines = ["create_hold do done", f"{step} do started", f"{step} do done", f"{step} undo done"]
    assert next_back(*lines) == "create_hold"
    part = journal(*lines).next_forward(PAGE)
    assert part is not None
    assert part.name == step
    assert next_back(*lines, f"{step} do started") == step
    assert next_back(*lines, f"{step} do started", f"{step} do not_sent") == "create_hold"


def test_a_person_s_word_starts_the_count_anew() -> None:
    """C20: failures and deaths before an operator's verb count no more, and the verb's line is no foreign step."""
    step = "capture_payment"
    failed = [f"{step} do started", f"{step} do unknown"] * 3
    after = journal(*failed, "operator do retry", f"{step} do started")
    assert (after.failures(step, "do"), after.unanswered(step, "do")) == (0, 1)
    assert not after.is_foreign_to(PAGE)
    assert journal("send_flowers do started").is_foreign_to(PAGE)


def since_undone(lines: list[Line], step: str) -> list[str]:
    """Return what was told of a step after the last time that it was undone, unless that was in vain."""
    told, before = list[str](), list[str]()
    for event in (f"{line.direction} {line.event}" for line in lines if line.step == step):
        if event == "undo done":
            told, before = [], told
        elif event == "undo in_vain" and before:
            told, before = before, []
        else:
            told.append(event)
    return told


EVENTS = [str(event) for event in Event]
ANY_LINE = st.builds(Line, st.sampled_from(NAMES), st.sampled_from(["do", "undo"]), st.sampled_from(EVENTS))


@given(st.lists(ANY_LINE, max_size=40))
def test_any_history_can_be_read(lines: list[Line]) -> None:
    """X12: no history, however broken, makes the journal fail; and it never names a step that is done or undone."""
    read = Journal(list(lines))
    forward, backward = read.next_forward(PAGE), read.next_backward(PAGE)
    if forward is not None:
        assert "do done" not in since_undone(lines, forward.name)
    if backward is not None:
        assert any(told.startswith("do ") for told in since_undone(lines, backward.name))
        assert not isinstance(backward, Pause)
    for name in NAMES:
        assert 0 <= read.failures(name, "do") <= len(lines)


@st.composite
def walked(draw: st.DrawFn) -> tuple[list[Line], set[str]]:
    """Draw a forward walk as the engine journals it, and the outside steps that may have had an effect."""
    lines: list[Line] = []
    maybe: set[str] = set()
    for part in PAGE.parts[: draw(st.integers(1, len(PAGE.parts)))]:
        if isinstance(part, RemoteStep):
            for _ in range(draw(st.integers(0, 3))):
                lines.append(Line(part.name, "do", "started"))
                came = draw(st.sampled_from(["not_sent", "unknown", "died"]))
                if came != "died":
                    lines.append(Line(part.name, "do", came))
                if came != "not_sent":
                    maybe.add(part.name)
            lines.append(Line(part.name, "do", "started"))
            maybe.add(part.name)
        lines.append(Line(part.name, "do", "done"))
    return lines, maybe


@given(walked())
def test_exactly_what_may_have_happened_is_undone(history: tuple[list[Line], set[str]]) -> None:
    """I18: unwinding any walk undoes every outside step that may have had an effect, in reverse, each once."""
    lines, maybe = history
    read, undone = Journal(list(lines)), list[str]()
    while (step := read.next_backward(PAGE)) is not None:
        undone.append(step.name)
        read.add(step.name, "undo", Event.DONE)
        assert len(undone) <= len(NAMES)
    local = {line.step for line in lines if line.step in LOCAL}
    assert set(undone) == maybe | local
    assert undone == sorted(undone, key=NAMES.index, reverse=True)


def test_a_journal_is_read_from_rows() -> None:
    """Rows of the table become lines, their other columns left alone."""
    row: Any = {"step": "create_hold", "direction": "do", "event": "done", "epoch": 3, "detail": None}
    assert Journal.of([row]).lines == [Line("create_hold", "do", "done")]
