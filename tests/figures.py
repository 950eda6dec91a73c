"""Figures that a run is judged by (attempts, winners, crash points, mutants): told by tests, shown in the summary."""

_MARK = "figure: "


def tell(text: str) -> None:
    """Show a figure at the end of the run, whichever process the test ran in."""
    print(f"\n{_MARK}{text}")


def figures_in(captured: str) -> list[str]:
    """Return the figures in a test's output."""
    return [line.removeprefix(_MARK) for line in captured.splitlines() if line.startswith(_MARK)]
