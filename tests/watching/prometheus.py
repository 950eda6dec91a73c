"""A real Prometheus beside the system: found on this machine or taken from its package archive, and quick to judge."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.processes import Child
from tests.watching.rules import FOLDER, files

PROGRAMS = ("prometheus", "promtool")
# Minutes and hours become seconds, as they do for leases and intervals in all tests of the whole system.
_SCALE = {"5m": "20s", "10m": "30s", "30m": "40s", "1h": "60s", "6h": "90s"}
_WINDOW = re.compile(r"(\[|offset )(5m|10m|30m|1h|6h)\b")
_SCRAPE_S = 1
RATE_INTERVAL = "30s"


class NoPrometheus(Exception):
    """There is none here, and none can be had; the message says what to install."""


@contextmanager
def programs() -> Iterator[Mapping[str, str]]:
    """Yield the paths of prometheus and promtool. Raises NoPrometheus."""
    found = {name: path for name in PROGRAMS if (path := shutil.which(name))}
    if len(found) == len(PROGRAMS):
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-prometheus-", ignore_cleanup_errors=True) as folder:
        yield _taken_from_archive(Path(folder))


def _taken_from_archive(folder: Path) -> Mapping[str, str]:
    """Unpack Debian's package without installing it, which takes nobody's permission."""
    folder.chmod(0o755)  # apt downloads as somebody else where it runs as root
    try:
        subprocess.run(["apt-get", "download", "prometheus"], cwd=folder, capture_output=True, check=True, timeout=120)
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder / "x"], capture_output=True, check=True, timeout=60)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        lack = f"no Prometheus on PATH, and none from the package archive: apt install prometheus ({error})"
        raise NoPrometheus(lack) from error
    return {name: str(folder / "x" / "usr" / "bin" / name) for name in PROGRAMS}


def quick(rules: str) -> str:
    """Return rules with windows of seconds, whose alerts wait for nothing."""
    shorter = _WINDOW.sub(lambda match: match[1] + _SCALE[match[2]], rules)
    return re.sub(r"^\s+for: .*\n", "", shorter, flags=re.MULTILINE)


class Prometheus:
    """Reads both services every second and judges with the quick rules. Used as `with`."""

    def __init__(self, binary: str, folder: Path, targets: Mapping[str, str]) -> None:
        """`targets` are addresses (host:port) by the name of the job."""
        self._folder = folder
        self._port = free_port()
        self._write_configuration(targets)
        self._child = Child(
            "prometheus",
            [
                binary,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={LOOPBACK}:{self._port}",
            ],
            log=folder / "prometheus.log",
        )
        self._http = httpx.Client(base_url=f"http://{LOOPBACK}:{self._port}/api/v1", timeout=20, trust_env=False)

    def _write_configuration(self, targets: Mapping[str, str]) -> None:
        (self._folder / "rules").mkdir(parents=True)
        for file in files():
            (self._folder / "rules" / file.name).write_text(quick(file.read_text()))
        shipped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        shipped["global"] = dict.fromkeys(shipped["global"], f"{_SCRAPE_S}s")
        for job in shipped["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(shipped))

    def __enter__(self) -> Self:
        self._child.wait_until(self._is_ready, 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._child.stop(10)

    def _is_ready(self) -> bool:
        try:
            return self._http.get(f"http://{LOOPBACK}:{self._port}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def firing(self) -> set[str]:
        """Return the names of the alerts that are on."""
        return {alert["labels"]["alertname"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"}

    def broken_rules(self) -> list[str]:
        """Return the rules that could not be evaluated, with the reason."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] == "err"]

    def shows(self, expression: str, since: float, until: float) -> bool:
        """Tell whether an expression had any value at all in that time (seconds of the clock)."""
        asked = {"query": expression, "start": since, "end": until, "step": 2}
        return any(
            value not in {"NaN", "+Inf"}
            for series in self._get("query_range", **asked)["result"]
            for _, value in series["values"]
        )

    def _get(self, path: str, **asked: Any) -> Any:
        answer = self._http.get(path, params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]
