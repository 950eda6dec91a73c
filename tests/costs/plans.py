"""How PostgreSQL would run a statement, whatever its parameters, and which tables it would read from end to end."""

import json
import re
from collections.abc import Iterator
from typing import Any

_PLACE = re.compile(r"\$(\d+)")
_LIMIT = re.compile(r"LIMIT \$\d+(::\w+)?")


def with_a_small_limit(sql: str) -> str:
    """Return a statement with a limit as small beside these tables as the real one is beside real tables; places close up."""
    text, numbers = _LIMIT.sub("LIMIT 2", sql), dict[str, str]()
    return _PLACE.sub(lambda match: f"${numbers.setdefault(match[1], str(len(numbers) + 1))}", text)


async def plan_of(connection: Any, sql: str) -> dict[str, Any]:
    """Return the plan that serves every value, as prepared statements that are run often get it."""
    sql = with_a_small_limit(sql)
    places = max((int(number) for number in _PLACE.findall(sql)), default=0)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE looked_at AS {sql}")
    try:
        nothing = f"({', '.join(['NULL'] * places)})" if places else ""
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE looked_at{nothing}")
    finally:
        await connection.execute("DEALLOCATE looked_at")
    found: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return found


def read_whole(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that a plan reads from the first row to the last."""
    if plan["Node Type"] in {"Seq Scan", "Parallel Seq Scan"}:
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from read_whole(part)
