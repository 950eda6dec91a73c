"""What Holdfast takes before it earns anything: time to start, memory of each service, and the size of an image."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

from deploy.embedded.parts import PROJECT
from tests.bench.ground import Ground

SERVICES = ("reservation", "payment")
_CONFIRMED = re.compile(r"confirmed ([0-9.]+) s after the start")
_UP_S = 120
_DOWN_S = 40
_MB = 1e6
# What the image's own Python, or only a developer's machine, brings: the Dockerfile installs the locked run-time packages.
_NOT_IN_IMAGES = ("pip", "setuptools")


class NoBooking(RuntimeError):
    """`make run` did not come to its booking; its words are in the text."""


def warm_starts_s(folder: Path, *, times: int) -> list[float]:
    """Return how long `make run` took from its first line to a confirmed booking, on a state folder that has run before.

    The database cluster exists, the virtual environment is complete, nothing else of ours runs. Raises NoBooking.
    """
    _started_s(folder)  # makes the cluster and the catalogue
    return [_started_s(folder) for _ in range(times)]


def _started_s(folder: Path) -> float:
    environ = {name: value for name, value in os.environ.items() if not name.endswith(("_URL", "_SECRET"))}
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.embedded"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=environ | {"HOLDFAST_STATE": str(folder)},
        start_new_session=True,
    ) as launcher:
        patience = threading.Timer(_UP_S, launcher.kill)
        patience.start()
        said = _until_up(launcher)
        patience.cancel()
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=_DOWN_S)
    found = _CONFIRMED.search(said)
    if found is None:
        raise NoBooking(said[-2000:])
    return float(found[1])


def _until_up(launcher: "subprocess.Popen[str]") -> str:
    """Read what the launcher prints until it is up or has ended."""
    lines = list[str]()
    for line in launcher.stdout or ():
        lines.append(line)
        if line.startswith("Up."):
            break
    return "".join(lines)


def memory_mb(ground: Ground) -> dict[str, float]:
    """Return the resident memory of each service's process now, in MB."""
    return {name: _resident_mb(ground.process_ids(name)[0]) for name in SERVICES}


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


def image_mb() -> float:
    """Return what an image adds to its base: the locked run-time packages as they are installed here, and our own code."""
    places = sysconfig.get_paths()
    site = Path(places["purelib"])
    wanted = {_folded(name) for name in _locked_names()}
    files = {
        file
        for info in site.glob("*.dist-info")
        if _folded(info.name.partition("-")[0]) in wanted - {_folded(name) for name in _NOT_IN_IMAGES}
        for file in _files_of(site, info)
    }
    ours = [
        file for name in ("shared", "reservation_service", "payment_service", "deploy") for file in _python_of(name)
    ]
    return sum(file.stat().st_size for file in [*files, *ours]) / _MB


def _locked_names() -> list[str]:
    return re.findall(r"^([A-Za-z0-9_.-]+)==", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _files_of(site: Path, info: Path) -> list[Path]:
    record = info / "RECORD"
    names = [line.rpartition(",")[0].rpartition(",")[0] for line in record.read_text().splitlines()]
    return [path for name in names if (path := site / name.strip('"')).is_file()]


def _python_of(package: str) -> list[Path]:
    return [path for path in (PROJECT / package).rglob("*") if path.is_file()]
