"""A profile counts each sample once, for the layer that it really stands in."""

import importlib
from pathlib import Path

from tests.bench.layers import LAYERS, parts, table

_OURS = ("reservation_service", "shared")
_OTHERS = (
    "asyncio", "asyncpg", "fastapi", "jwt", "limits", "openfeature", "opentelemetry.sdk", "prometheus_client", "pydantic",
    "slowapi", "sqlalchemy", "starlette", "uvicorn",
)  # fmt: skip


def test_a_sample_counts_for_the_innermost_layer() -> None:
    """A wait of the driver inside the route is the driver's; a thread of the exporter is nobody's."""
    main = "_run_module_as_main (runpy.py:196);serve (shared/serving.py:80)"
    route = f"{main};app (fastapi/routing.py:300);create_hold (reservation_service/api/holds.py:60)"
    found = parts(
        [
            f"{route} 2",
            f"{route};fetch (asyncpg/connection.py:9);run (runners.py:1) 5",
            f"{main};run_once (asyncio/base_events.py:1) 3",
            "_bootstrap (threading.py:1);export (opentelemetry/sdk/trace/export.py:1) 90",
        ]
    )
    assert {layer.name: part for layer, part in found.items()} == {
        "statement, group, lock": 0.5,
        "the behaviour itself, price, catalogue": 0.2,
        "event loop and sockets": 0.3,
    }
    assert "| **what a constant route does as well** | 30% | 1.2 |" in table(found, routes=4.0)


def test_every_layer_names_files_that_there_are() -> None:
    """What is at home in a file that was moved would silently count for the layer around it."""
    homes = {name: Path(str(importlib.import_module(name).__file__)).parent for name in (*_OURS, *_OTHERS)}
    files = [
        f"{name.replace('.', '/')}/{file.relative_to(home)}"
        for name, home in homes.items()
        for file in home.rglob("*.py")
    ]
    assert [path for layer in LAYERS for path in layer.paths if not any(path in file for file in files)] == []
