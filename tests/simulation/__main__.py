"""Many worlds, one after the other: `python -m tests.simulation --seeds 5000`; `--only SEED` lives through one and tells.

Prints what was seen, and for the first world in which anything was untrue, how to live through it again. Exits with 1
then.
"""

import os
import sys

if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of words is part of what a seed must decide
    os.execve(  # noqa: S606  the same program again
        sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"}
    )

from tests.simulation import chance
from tests.simulation.memory_sql import stand_in

stand_in.install()
chance.install()

from tests.simulation.runs import main  # noqa: E402

sys.exit(main())
