"""Writes what the services say about themselves into the docs, where a test notices every change."""

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference" / "openapi"


def documents() -> dict[str, dict[str, Any]]:
    """Return the OpenAPI document of each service, by the service's name; nothing is started or connected."""
    from payment_service.app import openapi_document as payment  # noqa: PLC0415  both load a whole service
    from reservation_service.app import openapi_document as reservation  # noqa: PLC0415

    return {"reservation": reservation(), "payment": payment()}


def write(folder: Path = FOLDER) -> list[Path]:
    """Write one file per service, in a layout that makes differences readable; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in documents().items():
        path = folder / f"{name}.json"
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
        draft.replace(path)
        written.append(path)
    return written
