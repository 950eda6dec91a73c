"""Documentation that points nowhere is worse than none: every link, anchor, file and test it names exists."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import PACKAGES, ROOT, repository_files

_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_PATH = re.compile(rf"^(?:{'|'.join((*PACKAGES, 'tests', 'docs'))})/[\w./-]+(?:::(\w+))?$")


def markdown_files() -> tuple[Path, ...]:
    """Return every page of the documentation, wherever it stands."""
    return tuple(path for path in repository_files() if path.suffix == ".md")


def anchors(text: str) -> set[str]:
    """Return the anchors that a reader's browser finds on a page: headings, as the forges write them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)).lower().replace(" ", "-")
        copies = sum(1 for anchor in found if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", anchor))
        found.add(f"{plain}-{copies}" if copies else plain)
    return found


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Yield links of a page that lead to no file or no heading; addresses on the web are not looked at."""
    for target in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if name and not file.exists():
            yield f"{page.relative_to(ROOT)}: {target} leads to no file"
        elif anchor and anchor not in anchors(text if file == page else file.read_text()):
            yield f"{page.relative_to(ROOT)}: {target} leads to no heading"


def missing_files(page: Path, text: str) -> Iterator[str]:
    """Yield files and tests that a page names in code style and that do not exist."""
    for quoted in _CODE.findall(_FENCE.sub("", text)):
        match = _PATH.match(quoted)
        if not match:
            continue
        file = ROOT / quoted.partition("::")[0]
        if not (file.exists() or file.with_suffix(".py").exists()):
            yield f"{page.relative_to(ROOT)}: `{quoted}` does not exist"
        elif match[1] and not re.search(rf"\bdef {match[1]}\b", file.read_text()):
            yield f"{page.relative_to(ROOT)}: there is no {match[1]} in `{quoted}`"


def orphans(pages: dict[Path, str]) -> set[Path]:
    """Return pages below docs/ that no other page links to: nobody would ever find them."""
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page, text in pages.items()
        for target in _LINK.findall(text)
        if "://" not in target
    }
    return {page for page in pages if page.is_relative_to(ROOT / "docs")} - linked


def _pages() -> dict[Path, str]:
    return {page: page.read_text() for page in markdown_files()}


def test_every_link_leads_somewhere() -> None:
    """Every relative link of every page leads to a file, and its anchor to a heading."""
    assert not [finding for page, text in _pages().items() for finding in broken_links(page, text)]


def test_every_file_and_test_that_is_named_exists() -> None:
    """A path in code style is a path of the repository, and a test named as proof is there."""
    assert not [finding for page, text in _pages().items() for finding in missing_files(page, text)]


def test_every_page_can_be_reached() -> None:
    """No page of the documentation is without a link to it."""
    assert not {str(page.relative_to(ROOT)) for page in orphans(_pages())}


def test_the_rules_see_bad_examples() -> None:
    """A dead link, a dead anchor, a dead path and a dead test are reported; code blocks and web addresses are not."""
    page = ROOT / "docs" / "example.md"
    bad = (
        "# A `b` c\n[x](nowhere.md) [y](#a-b) [z](../README.md#no-such)\n`shared/nowhere.py` `shared/clock.py::no_such`"
    )
    assert len(list(broken_links(page, bad))) == 3
    assert len(list(missing_files(page, bad))) == 2
    good = "# A `b` c\n[x](../README.md) [y](#a-b-c) [w](https://example.com)\n`shared/clock.py`\n```\n[x](nowhere.md)\n```\n"
    assert not list(broken_links(page, good))
    assert not list(missing_files(page, good))
    assert anchors("# One\n## One\n```\n# Not one\n```\n") == {"one", "one-1"}


def test_the_documentation_is_there() -> None:
    """The rules look at the readme and at every kind of page."""
    places = {str(page.relative_to(ROOT).parent) for page in markdown_files()}
    wanted = {"tutorials", "how-to", "reference", "explanation", "runbook", "decisions"}
    assert {".", "docs", *(f"docs/{kind}" for kind in wanted)} <= places
