"""As whom PostgreSQL runs: an ordinary user as himself, root never as root, and nobody's folders are opened for it."""

import os
import pwd
from pathlib import Path

import pytest

from deploy.embedded import identity
from deploy.embedded.binaries import PostgresBinaries, find_postgres
from deploy.embedded.identity import choose_quarters
from deploy.embedded.postgres import Postgres

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
_NOBODY = pwd.getpwnam("nobody")


def _never(_binaries: PostgresBinaries) -> bool:
    return False


def _always(_binaries: PostgresBinaries) -> bool:
    return True


@pytest.fixture
def programs(tmp_path: Path) -> PostgresBinaries:
    """An installation below a folder that only its owner may enter, with a wheel's libraries beside it."""
    runtime = tmp_path / "private" / "site-packages"
    bin_dir = runtime / "wheel" / "install" / "bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "postgres").write_text("program")
    (runtime / "wheel.libs").mkdir()
    (runtime / "wheel.libs" / "libpq.so").write_text("library")
    (runtime / "unrelated").mkdir()
    (tmp_path / "private").chmod(0o700)
    return PostgresBinaries(bin_dir, "a wheel", 18, runtime)


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that everybody may pass, seen from pytest's own (private) one."""
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    real = identity.passable
    monkeypatch.setattr(identity, "passable", lambda path: path.is_relative_to(folder) or real(path))
    return folder


def test_an_ordinary_user_is_kept(tmp_path: Path, programs: PostgresBinaries) -> None:
    """Nothing is moved, copied or given away for a user who is not root."""
    quarters = choose_quarters(tmp_path, programs, uid=1000, namespaces_work=_always)
    assert (quarters.identity, quarters.owner, quarters.folder) == ("keep", None, tmp_path)


def test_root_becomes_nobody_where_nobody_can_go(open_folder: Path) -> None:
    """When both data and programs can be reached, no namespace and no copy is needed."""
    bin_dir = open_folder / "pg" / "bin"
    bin_dir.mkdir(parents=True)
    quarters = choose_quarters(
        open_folder / "state", PostgresBinaries(bin_dir, "x", 18, open_folder), uid=0, namespaces_work=_always
    )
    assert quarters.identity == f"user:{_NOBODY.pw_uid}:{_NOBODY.pw_gid}"


def test_root_with_private_folders_takes_a_namespace(tmp_path: Path, programs: PostgresBinaries) -> None:
    """A clone under a private folder stays where and whose it is."""
    quarters = choose_quarters(tmp_path / "private" / "state", programs, uid=0, namespaces_work=_always)
    assert (quarters.identity, quarters.folder) == ("namespace", tmp_path / "private" / "state")


def test_root_without_namespaces_moves_out(tmp_path: Path, open_folder: Path, programs: PostgresBinaries) -> None:
    """Data and programs go to an open folder, libraries included and nothing else; the private folder stays private."""
    quarters = choose_quarters(
        tmp_path / "private" / "state", programs, uid=0, namespaces_work=_never, elsewhere=open_folder / "var"
    )
    assert quarters.folder.parent == open_folder / "var"
    assert quarters.binaries.postgres.read_text() == "program"
    assert quarters.binaries.bin_dir.is_relative_to(open_folder)
    assert sorted(path.name for path in quarters.binaries.runtime.iterdir()) == ["wheel", "wheel.libs"]
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


@as_root
@pytest.mark.parametrize("namespaces", [True, False], ids=["namespace", "nobody"])
def test_the_server_runs_as_somebody_else(*, namespaces: bool, tmp_path: Path, open_folder: Path) -> None:
    """Started by root, the real server works in a namespace and as nobody, and its data is owned accordingly."""
    if namespaces and not identity._namespaces_work(find_postgres()):
        pytest.skip("this machine forbids user namespaces")
    if not namespaces and not identity.passable(Path("/tmp")):  # noqa: S108
        pytest.skip("no folder on this machine is open to nobody")
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o700 if namespaces else 0o755)
        with Postgres(
            folder / "pg",
            password="x" * 20,
            durable=False,
            choose=lambda wanted, found: choose_quarters(
                wanted, found, namespaces_work=lambda _one: namespaces, elsewhere=folder / "elsewhere"
            ),
        ) as server:
            assert server.create_database("proof")
            owner = server.data.stat().st_uid
            expected = 0 if namespaces else _NOBODY.pw_uid
            assert owner == expected
