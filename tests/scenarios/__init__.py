"""Failure scenarios by id: a test names its ids in its docstring and says here that the fault really came.

A fault that never happened proves nothing. So a test that provokes one tells how often it was seen, and the run counts
a scenario as covered only when that test passed and the fault was told.
"""

_MARK = "scenario: "


def fired(scenario_id: str, times: int) -> None:
    """Assert that the fault of a scenario (`K01`) happened, and let the run know."""
    assert times > 0, f"{scenario_id}: the fault never happened, so the test proves nothing"
    print(f"\n{_MARK}{scenario_id} {times}")


def fired_in(captured: str) -> dict[str, int]:
    """Return the ids whose fault a test has told, and how often it was seen."""
    told: dict[str, int] = {}
    for line in captured.splitlines():
        if line.startswith(_MARK):
            name, times = line.removeprefix(_MARK).split()[:2]
            told[name] = told.get(name, 0) + int(times)
    return told
