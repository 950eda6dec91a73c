"""What is committed names no package index, and what is served loads nothing from anywhere else."""

import re
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT, repository_files, text_files

LOCKS = tuple(path for path in repository_files() if path.suffix == ".lock")
_INDEX_HOST = re.compile(r"//[\w.-]*(?:pypi|pythonhosted|artifactory|nexus|devpi)[\w.-]*", re.IGNORECASE)
_INDEX_OPTION = re.compile(r"^\s*(?:--)?(?:extra-)?index-url\b|^\s*--?find-links\b|\[\[tool\.uv\.index", re.MULTILINE)
_SERVED = {".html", ".js", ".css", ".svg", ".jinja", ".j2"}
_LOADS = re.compile(
    r"""(?:src|href|action|hx-\w+)\s*=\s*["']?\s*(?:https?:)?//
    | url\(\s*["']?(?:https?:)?//
    | @import\s+["'](?:https?:)?//
    | (?:import|fetch|importScripts|EventSource|WebSocket)\s*\(?\s*["'`](?:https?:|wss?:)?//""",
    re.VERBOSE | re.IGNORECASE,
)
# An ordinary link that a person may click leaves the page; nothing is loaded by it.
_CLICKED = re.compile(r"""<a\b[^>]*>""", re.IGNORECASE)


def loads_from_elsewhere(text: str) -> list[str]:
    """Return what a served file would load from another host."""
    return [match[0] for match in _LOADS.finditer(_CLICKED.sub("", text))]


def names_an_index(text: str) -> bool:
    """Tell whether a file says where packages come from."""
    return bool(_INDEX_HOST.search(text) or _INDEX_OPTION.search(text))


def test_there_are_locks() -> None:
    """Both dependency locks and the lock of the binaries are committed."""
    names = {path.name for path in LOCKS}
    assert {"requirements.lock", "requirements-dev.lock", "binaries.lock"} <= names


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_hashes_and_no_addresses(lock: Path) -> None:
    """Everything in a lock is pinned by hash, and it works behind any package index."""
    text = lock.read_text()
    assert "://" not in text
    pinned = re.findall(r"^[a-zA-Z][\w.-]*==", text, re.MULTILINE)
    assert pinned
    assert text.count("--hash=sha256:") >= len(pinned)


def test_no_tool_lock_that_records_hosts_is_committed() -> None:
    """Lock formats that write down index hosts stay out of the repository."""
    assert not [
        path for path in repository_files() if path.name in {"uv.lock", "pylock.toml", "poetry.lock", "pip.conf"}
    ]


def test_no_file_names_a_package_index() -> None:
    """No file says where packages come from; that is the machine's business."""
    assert not [str(path.relative_to(ROOT)) for path, text in text_files() if names_an_index(text)]


def test_nothing_served_loads_from_elsewhere() -> None:
    """Every page that we serve works with the network cut."""
    served = [
        (path, text)
        for path, text in text_files()
        if path.suffix in _SERVED and path.relative_to(ROOT).parts[0] in PACKAGES
    ]
    found = {str(path.relative_to(ROOT)): loads for path, text in served if (loads := loads_from_elsewhere(text))}
    assert not found


def test_the_rules_see_bad_examples() -> None:
    """Scripts, styles, fonts, images, imports and index hosts are seen; links to click and prose are not."""
    for bad in (
        '<script src="https://cdn.example/x.js">',
        "<link rel=stylesheet href=//fonts.example/css>",
        "@import 'https://fonts.example/css'",
        "body { background: url(http://x.example/y.png) }",
        "fetch('https://api.example/')",
    ):
        assert loads_from_elsewhere(bad), bad
    assert not loads_from_elsewhere('<script src="/static/x.js"></script> <a href="https://example.com/">read</a>')
    assert names_an_index("--index-url https://mirror.example/simple\n")
    assert names_an_index("see https://my-{}.example/repository\n".format("nexus"))
    assert not names_an_index("the index of a list; https://example.com/\n")
