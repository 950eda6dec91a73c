"""Draws a saga as a tree: what it did, how often and for how long, what it waits for, and what a person can do about it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deploy.embedded.money import spoken

_OPERATOR = "operator"
_WIDTH = 34


@dataclass
class Branch:
    """A line of the tree with what hangs below it."""

    text: str
    below: list["Branch"] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield self.text
        for number, branch in enumerate(self.below, 1):
            last = number == len(self.below)
            first, *rest = branch.lines()
            yield ("└── " if last else "├── ") + first
            yield from (("    " if last else "│   ") + line for line in rest)


def draw(saga: Mapping[str, Any]) -> str:
    """Return the tree of one saga, as GET /admin/v1/sagas/{id} shows it; the times in it are the server's."""
    turned = f", because: {saga['unwinding_because']}" if saga["unwinding_because"] else ""
    top = Branch(f"saga {saga['id']}  {saga['status']}{turned}")
    top.below = [Branch(_booking(saga)), *_acts(saga), Branch(_lease(saga))]
    top.below += [Branch(f"waits for {saga['waits_for']}"), Branch(_due(saga)), Branch(_verbs(saga))]
    return "\n".join(top.lines())


def _booking(saga: Mapping[str, Any]) -> str:
    booking = saga["booking"]
    seats = f"{booking['seats']} seats {'pinned' if booking['seats_pinned'] else 'given back'}"
    money = f"{spoken(booking['total']['amount'], booking['total']['currency'])}, payment {booking['payment_status']}"
    generation = f", generation {saga['generation']}" if saga["generation"] > 1 else ""
    return f"booking {booking['reference']}  {booking['status']}: {seats}; {money}{generation}"


def _acts(saga: Mapping[str, Any]) -> Iterator[Branch]:
    """Yield one branch per uninterrupted run of lines about the same step and direction."""
    start, run = datetime.fromisoformat(saga["created_at"]), list[Mapping[str, Any]]()
    for line in saga["steps"]:
        if run and (run[-1]["step"], run[-1]["direction"]) != (line["step"], line["direction"]):
            yield _act(run, start)
            run = []
        run.append(line)
    if run:
        yield _act(run, start)


def _act(run: Sequence[Mapping[str, Any]], start: datetime) -> Branch:
    if run[0]["step"] == _OPERATOR:
        return Branch("operator", [Branch(_word(line, start)) for line in run])
    name = run[0]["step"] if run[0]["direction"] == "do" else f"undo {run[0]['step']}"
    tries = list(_tries(run, start))
    ended = "no answer" if run[-1]["event"] == "started" else run[-1]["event"]
    if not tries:
        return Branch(f"{name:<{_WIDTH}}{ended}{_detail(run[-1])}  {_when(run[-1], start)}")
    counted = "1 try" if len(tries) == 1 else f"{len(tries)} tries"
    return Branch(f"{name:<{_WIDTH}}{ended}, {counted}", tries)


def _tries(run: Sequence[Mapping[str, Any]], start: datetime) -> Iterator[Branch]:
    """Yield one branch per `started`, with what came of it; a try without a word is one whose worker died."""
    for number, line in enumerate(run):
        if line["event"] != "started":
            continue
        answer = run[number + 1] if number + 1 < len(run) and run[number + 1]["event"] != "started" else None
        came = f"{answer['event']} after {_took(line, answer)}{_detail(answer)}" if answer else "no answer yet, or ever"
        yield Branch(f"{_when(line, start)}  {came}  (epoch {line['epoch']})")


def _word(line: Mapping[str, Any], start: datetime) -> str:
    told = line["detail"]
    outcome = f" as {told['outcome']}" if "outcome" in told else ""
    return f"{_when(line, start)}  {line['event']}{outcome} by {told['by']}: {told['why']}"


def _detail(line: Mapping[str, Any]) -> str:
    told = line["detail"] or {}
    if told.get("skipped"):
        return " (not needed)"
    return f": {told['code']}" if told.get("code") else ""


def _when(line: Mapping[str, Any], start: datetime) -> str:
    return f"+{_seconds((datetime.fromisoformat(line['at']) - start).total_seconds())}"


def _took(line: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    return _seconds((datetime.fromisoformat(answer["at"]) - datetime.fromisoformat(line["at"])).total_seconds())


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def _lease(saga: Mapping[str, Any]) -> str:
    now = datetime.fromisoformat(saga["now"])
    until = datetime.fromisoformat(saga["lease_until"]) if saga["lease_until"] else None
    if until is None or until <= now:
        return f"lease  epoch {saga['lease_epoch']}, nobody has it"
    return f"lease  epoch {saga['lease_epoch']}, held for {_seconds((until - now).total_seconds())} more"


def _due(saga: Mapping[str, Any]) -> str:
    if not saga["due_at"]:
        return "due    never by itself"
    ahead_s = (datetime.fromisoformat(saga["due_at"]) - datetime.fromisoformat(saga["now"])).total_seconds()
    tries = f"  (looked at {saga['attempts']} times since something changed)"
    return (f"due    in {_seconds(ahead_s)}" if ahead_s > 0 else "due    now") + tries


def _verbs(saga: Mapping[str, Any]) -> str:
    return f"an operator can: {', '.join(saga['operator_can']) or 'nothing'}"
