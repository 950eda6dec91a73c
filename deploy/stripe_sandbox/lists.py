"""Lists as Stripe pages them: newest first, a cursor is the id of an object."""

import orjson

from .errors import resource_missing
from .parameters import Integer, Listing, Reader, Span, Text
from .state import Document, public
from .turn import Turn

LIST: dict[str, Reader] = {
    "limit": Integer(least=1, most=100),
    "starting_after": Text(),
    "ending_before": Text(),
    "created": Span(),
    "expand": Listing(),
}
_COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def listed(
    turn: Turn,
    kind: str,
    url: str,
    *,
    intent: str | None = None,
    where: str = "",
    values: tuple[object, ...] = (),
) -> Document:
    """Return one page. `where` is an SQL condition of ours (never of the caller's) with its `values`."""
    conditions, bound = ["kind = ?"], [kind]
    if intent is not None:
        conditions.append("intent = ?")
        bound.append(intent)
    if where:
        conditions.append(where)
        bound.extend(str(value) for value in values)
    for name, moment in turn.params.get("created", {}).items():
        conditions.append(f"created {_COMPARISONS[name]} {moment:d}")
    backwards = "ending_before" in turn.params
    for name, sign in (("starting_after", "<"), ("ending_before", ">")):
        if name in turn.params:
            conditions.append(f"seq {sign} {_position(turn, kind, turn.params[name], name):d}")
    limit = turn.params.get("limit", 10)
    rows = turn.state.run(
        f"SELECT document FROM objects WHERE {' AND '.join(conditions)} "  # noqa: S608  # conditions are ours, values bound
        f"ORDER BY seq {'ASC' if backwards else 'DESC'} LIMIT {limit + 1:d}",
        *bound,
    ).fetchall()
    page = [public(orjson.loads(row[0])) for row in rows[:limit]]
    if backwards:
        page.reverse()
    return {"object": "list", "url": url, "has_more": len(rows) > limit, "data": page}


def _position(turn: Turn, kind: str, object_id: str, param: str) -> int:
    row = turn.state.run("SELECT seq FROM objects WHERE id = ? AND kind = ?", object_id, kind).fetchone()
    if row is None:
        raise resource_missing(kind, object_id, param)
    return int(row[0])
