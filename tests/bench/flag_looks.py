"""`make bench-flags`: how long one look at a flag takes, which a hold does five times before it takes a seat.

Processor time, the best of a few rounds: what else the machine does is no part of it. Red from 20 microseconds on.
"""

import sys
import time
from collections.abc import Callable

from reservation_service.flags import FLAGS, GROUP_ADMISSION
from reservation_service.store.tables import flag_overrides
from shared.flags import Flags, Override

_ENOUGH_US = 20.0
_LOOKS = 20_000
_ROUNDS = 5
_CALLER = "guest:0198f0c2-6a52-7c4e-9d0e-3f6d1f0c2b11"


def took_us(look: Callable[[], object]) -> float:
    """Return what one look costs at best."""
    best_s = float("inf")
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_LOOKS):
            look()
        best_s = min(best_s, time.process_time() - began)
    return best_s / _LOOKS * 1e6


def main() -> int:
    flags = Flags(FLAGS, flag_overrides, {})
    figures = {"as declared": took_us(lambda: flags.is_on(GROUP_ADMISSION, _CALLER))}
    flags.override({GROUP_ADMISSION: Override(enabled=True, percentage=50)})
    figures["rolled out to half of the callers"] = took_us(lambda: flags.is_on(GROUP_ADMISSION, _CALLER))
    request = flags.snapshot(_CALLER)
    figures["again in the same request"] = took_us(lambda: request[GROUP_ADMISSION])
    for name, figure in figures.items():
        print(f"  {figure:6.2f} us  {name}")
    good = max(figures.values()) < _ENOUGH_US
    print(f"bench-flags: {'all below' if good else 'RED, not all below'} {_ENOUGH_US:g} us")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
