"""`python -m tests.mutants [name ...]`: hunt all planted bugs, or the named ones, and show what the tests printed."""

import sys

from tests.mutants.bugs import BUGS
from tests.mutants.hunt import hunt, summary


def main(names: list[str]) -> int:
    """Return 0 when the honest product passes and every bug was noticed."""
    wanted = [bug for bug in BUGS if not names or bug.name in names]
    verdicts = hunt(wanted, print)
    for each in verdicts:
        if names or not each.is_right:
            print(f"\n--- {each.line}\n{each.printed}")
    print(summary(verdicts))
    return 0 if wanted and all(each.is_right for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
