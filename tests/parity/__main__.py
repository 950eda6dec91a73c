"""`make parity`: the contract with all flags on, all off, each off, each alone, and flipped while a booking is made.

Exits 0 only if each combination was tried and nothing was wrong. The same `--seed` adds the same pairwise sample.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from deploy.embedded.databases import migrate
from deploy.embedded.postgres import Postgres
from deploy.embedded.valkey import Valkey, find_valkey
from tests.parity.campaign import Tally, open_parity, run
from tests.parity.combinations import Combination, every_combination, pairwise


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--budget", type=float, default=600.0, help="seconds; combinations that come later are not tried"
    )
    options = parser.parse_args()
    combinations = [*every_combination(), *pairwise(options.seed)]
    print(f"parity: seed={options.seed} combinations={len(combinations)}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="holdfast-parity-", ignore_cleanup_errors=True) as folder:
        tally = _with_servers(Path(folder), combinations, options.budget)
    for line in tally.wrong:
        print(f"  WRONG {line}")
    print(f"{tally.line()} in {time.monotonic() - began:.0f} s")
    good = not tally.wrong and tally.done == tally.wanted
    if not good:
        print(f"parity: RED; the same again: make parity SEED={options.seed}")
    return 0 if good else 1


def _with_servers(folder: Path, combinations: list[Combination], budget_s: float) -> Tally:
    with ExitStack() as parts:
        postgres = parts.enter_context(Postgres(folder / "postgres", password=secrets.token_hex(16), durable=False))
        redis_url = parts.enter_context(Valkey(folder)).url if find_valkey() else ""
        urls = {}
        for service in ("reservation", "payment"):
            postgres.create_database(service)
            urls[service] = postgres.url(service)
        migrate(urls)
        return asyncio.run(_try_all(folder, combinations, budget_s, urls, redis_url))


async def _try_all(
    folder: Path, combinations: list[Combination], budget_s: float, urls: dict[str, str], redis_url: str
) -> Tally:
    async with open_parity(
        folder, reservation_url=urls["reservation"], payment_url=urls["payment"], redis_url=redis_url
    ) as (town, switches):
        return await run(town, switches, combinations, budget_s=budget_s, announce=partial(print, flush=True))


if __name__ == "__main__":
    sys.exit(main())
