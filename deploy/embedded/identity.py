"""Under which user PostgreSQL runs, because it refuses to be root and root is who many containers and servers are.

An ordinary user is simply kept. For root, in this order: be `nobody`, where `nobody` can reach both programs and
data; be root inside a user namespace that shows it as nobody (nothing moves, files stay root's); else put data, and
programs where they are out of reach, below a folder everybody may pass through, and be `nobody` there. Folders that
are not ours are never opened to other users.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.embedded.binaries import PostgresBinaries
from deploy.embedded.processes import leashed

_ELSEWHERE = Path("/var/lib/holdfast")
_PROBE_S = 20


@dataclass(frozen=True)
class Quarters:
    """Where PostgreSQL lives and as whom: `identity` is the leash's word, `owner` whose the files are."""

    identity: str
    owner: tuple[int, int] | None
    folder: Path
    binaries: PostgresBinaries

    def give(self, path: Path) -> None:
        """Hand a file or a folder with all it contains to the user PostgreSQL runs as."""
        if self.owner is None:
            return
        for one in (path, *(path.rglob("*") if path.is_dir() else ())):
            if (one.lstat().st_uid, one.lstat().st_gid) != self.owner:
                os.chown(one, *self.owner, follow_symlinks=False)


def choose_quarters(
    folder: Path,
    binaries: PostgresBinaries,
    *,
    uid: int | None = None,
    namespaces_work: Callable[[PostgresBinaries], bool] | None = None,
    elsewhere: Path = _ELSEWHERE,
) -> Quarters:
    """Decide for `folder` (where the caller wants the data) and these programs; copies programs if it has to."""
    if (os.geteuid() if uid is None else uid) != 0:
        return Quarters("keep", None, folder, binaries)
    nobody = pwd.getpwnam("nobody")
    as_nobody = Quarters(f"user:{nobody.pw_uid}:{nobody.pw_gid}", (nobody.pw_uid, nobody.pw_gid), folder, binaries)
    if passable(folder) and passable(binaries.bin_dir):
        return as_nobody
    if (namespaces_work or _namespaces_work)(binaries):
        return Quarters("namespace", (0, 0), folder, binaries)
    home = elsewhere / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    reachable = binaries if passable(binaries.bin_dir) else binaries.moved_to(_copy_of(binaries, home))
    return replace(as_nobody, folder=home, binaries=reachable)


def passable(path: Path) -> bool:
    """Tell whether every existing folder down to `path` lets any user through."""
    path = path.resolve()
    return all(one.stat().st_mode & stat.S_IXOTH for one in (path, *path.parents) if one.exists() and one.is_dir())


def _namespaces_work(binaries: PostgresBinaries) -> bool:
    """Try it: containers often forbid user namespaces, and say so only when asked."""
    probe = [*leashed("namespace"), str(binaries.postgres), "--version"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=_PROBE_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _copy_of(binaries: PostgresBinaries, home: Path) -> Path:
    """Copy the programs and the libraries beside them; an interrupted copy is made again."""
    target = home / f"runtime-{binaries.major}"
    if target.exists():
        return target
    draft = target.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    wanted = _parts(binaries)
    for part in wanted:
        shutil.copytree(part, draft / part.relative_to(binaries.runtime), symlinks=True)
    draft.replace(target)
    return target


def _parts(binaries: PostgresBinaries) -> list[Path]:
    """Return the folders that belong to one installation: its own, and for a wheel the libraries packed beside it."""
    install = binaries.bin_dir.parent
    if install == binaries.runtime:
        return [part for part in install.iterdir() if part.is_dir()]
    package = install.relative_to(binaries.runtime).parts[0]
    beside = binaries.runtime / f"{package}.libs"
    return [install, *([beside] if beside.is_dir() else [])]
