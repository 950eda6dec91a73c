"""Renders every dashboard as the text of its file, the same bytes each time."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import guests, money, processes, sagas_and_locks
from deploy.grafana.drawing import draw

FOLDER = Path(__file__).parent / "dashboards"
PAGES = (guests.PAGE, money.PAGE, sagas_and_locks.PAGE, processes.PAGE)


def render() -> dict[str, str]:
    """Return the text of each file in `dashboards`, by its name."""
    return {
        f"{page.name}.json": json.dumps(draw(page), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        + "\n"
        for page in PAGES
    }
