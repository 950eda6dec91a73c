"""SECURITY.md says what proves each row, and the audit for a schedule sees what it is there to see."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.source import ROOT
from tests.security_audit import findings, secrets_in, unpinned, unsafe_image

_ROW = re.compile(r"^\| (API\d+) .*?\|.*\|(?P<proofs>[^|]*)\|$", re.MULTILINE)
_PROOF = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def missing(page: str) -> list[str]:
    """Return the rows without a proof, and the proofs that are not there."""
    wrong = []
    for row in _ROW.finditer(page):
        proofs = _PROOF.findall(row["proofs"])
        if not proofs:
            wrong.append(f"{row[1]} names no test")
        for path, test in proofs:
            tree = ast.parse((ROOT / path).read_text()) if (ROOT / path).exists() else ast.Module([], [])
            tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            if (test or "test_") not in tests and not (not test and any(name.startswith("test_") for name in tests)):
                wrong.append(f"{row[1]}: there is no {path}::{test}")
    return wrong


def test_every_row_names_a_test_that_is_there() -> None:
    """OWASP's ten risks, each with at least one test."""
    page = (ROOT / "SECURITY.md").read_text()
    assert [row[1] for row in _ROW.finditer(page)] == [f"API{n}" for n in range(1, 11)]
    assert missing(page) == []


def test_a_row_without_proof_is_seen() -> None:
    """Neither no test, nor one that does not exist, passes for a proof."""
    assert missing("| API1 x | y | trust us |\n") == ["API1 names no test"]
    assert missing("| API1 x | y | `tests/nowhere.py::test_x` |\n")
    assert missing("| API1 x | y | `tests/architecture/test_security_page.py::test_nothing` |\n")


def test_what_is_committed_is_clean() -> None:
    """The offline part of `make security-audit` finds nothing."""
    assert findings() == []


@pytest.mark.parametrize(
    "secret",
    [
        "sk_" + "live_" + "a1" * 12,
        "whsec" + "_" + "b2" * 16,
        "AKIA" + "Z" * 16,
        "hfk" + "_" + "c" * 43,
        "eyJ" + "a" * 30 + ".eyJ" + "b" * 30 + "." + "c" * 30,
    ],
)
def test_a_committed_secret_is_seen(secret: str) -> None:
    """Found with its line, and not repeated."""
    (found,) = secrets_in([(Path("x.py"), f"# one\nKEY = '{secret}'\n")])
    assert found.startswith("x.py:2: ")
    assert secret not in found


def test_a_loose_lock_and_an_unsafe_image_are_seen() -> None:
    """A range, a file without a hash, root, a moving base, a download, a secret."""
    assert list(unpinned("a>=1\nb==1 \\\n    --hash=sha256:00\nc==2\n")) == ["a>=1: no exact version", "c==2: no hash"]
    image = "FROM python:latest\nADD https:" + "//x/y /z\nENV API_KEY=abc\nRUN pip install x\nUSER root\n"
    assert len(list(unsafe_image(image))) == 6
    good = "FROM python:3.11-slim AS base\nRUN pip install \\\n --require-hashes -r x\nUSER 10001:10001\nFROM base AS one\n"
    assert list(unsafe_image(good + "HEALTHCHECK NONE\n")) == []
