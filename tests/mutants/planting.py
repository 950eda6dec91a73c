"""Plants one bug while the product is being imported: a pytest plugin (`-p tests.mutants.planting`), for one process.

The source on disk is read, changed in memory and compiled; nothing is written, and no byte code is kept. Migrations,
which alembic loads by their path, come the same way. A bug that never came into play is an error of this page.
"""

import os
import sys
from functools import reduce
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest

from tests.mutants.bugs import BUGS, Bug, Edit

VARIABLE = "PLANTED_BUG"
PROJECT = Path(__file__).resolve().parents[2]


class CannotBePlanted(Exception):
    """The product no longer has the words that the bug changes: describe the bug anew in `bugs.py`."""


def planted_source(source: str, edit: Edit) -> str:
    """Return the source with the bug in it. Raises CannotBePlanted."""
    found = source.count(edit.honest)
    if found != edit.times:
        raise CannotBePlanted(f"{edit.path} has {edit.honest.strip()!r} {found} times instead of {edit.times}")
    return source.replace(edit.honest, edit.planted)


class Planting:
    """Stands in for the import system's way to the code of a file, for the files that the bug changes."""

    def __init__(self, bug: Bug) -> None:
        self.waiting = {PROJECT / edit.path for edit in bug.edits}
        self._bug = bug
        self._honest_code = SourceFileLoader.get_code

    def begin(self) -> None:
        planting = self

        def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
            return planting.code(loader, fullname)

        SourceFileLoader.get_code = get_code  # type: ignore[assignment, method-assign]

    def code(self, loader: SourceFileLoader, fullname: str) -> CodeType | None:
        path = Path(loader.path).resolve()
        edits = [edit for edit in self._bug.edits if PROJECT / edit.path == path]
        if not edits:
            return self._honest_code(loader, fullname)
        self.waiting.discard(path)
        source = reduce(planted_source, edits, path.read_text())
        code: CodeType = compile(source, str(path), "exec", dont_inherit=True)
        return code


def _begin(name: str) -> Planting:
    assert not {"shared", "reservation_service", "payment_service"} & sys.modules.keys(), "imported too early to plant"
    planting = Planting(next(bug for bug in BUGS if bug.name == name))
    planting.begin()
    return planting


_planting = _begin(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _planting is not None and _planting.waiting:
        sys.stderr.write(f"never imported, so never planted: {sorted(map(str, _planting.waiting))}\n")
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
