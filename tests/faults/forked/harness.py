"""The process that forks: `python -m tests.faults.forked.harness FOLDER RESERVATION_URL PAYMENT_URL REDIS_URL`.

It has imported both services before its first order comes. An order is a line of JSON on standard input
(`{"path": ..., "deaths": [...]}`), its verdict one on standard output. It ends with its input.
"""

import json
import sys
from pathlib import Path

from shared.telemetry import configure_logging
from tests.faults.forked.ground import Ground
from tests.faults.forked.trials import Trials


def main(folder: str, reservation_url: str, payment_url: str, redis_url: str) -> None:
    """Take orders until there are no more."""
    with Ground(Path(folder), reservation_url=reservation_url, payment_url=payment_url, redis_url=redis_url) as ground:
        answers, sys.stdout = sys.stdout, sys.stderr
        configure_logging("crash_harness", ground.settings()[0])
        trials = Trials(ground)
        for line in sys.stdin:
            order = json.loads(line)
            verdict = trials.run(order["path"], order["deaths"])
            print(json.dumps(verdict.as_dict()), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
