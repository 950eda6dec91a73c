"""`make security-audit`: what can be looked at without running anything: locks, committed files, image files.

Known weaknesses of dependencies are asked for when `pip-audit` is on the machine; without it the audit says that they were
not, and `--strict` makes that an error, for a schedule that must not fall asleep.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.architecture.source import ROOT, text_files

_LOCKS = ("requirements.lock", "requirements-dev.lock", "deploy/embedded/binaries.lock")
_SECRETS = {
    "a live Stripe key": re.compile(r"\b[sr]k_live_[0-9A-Za-z]{16,}"),
    "a webhook secret": re.compile(r"\bwhsec_[0-9A-Za-z+/]{24,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20,}"),
    "a key of a cloud": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "an API key of ours": re.compile(r"\bhfk_[0-9A-Za-z_-]{40,}"),
    "a token": re.compile(r"\beyJ[0-9A-Za-z_-]{20,}\.eyJ[0-9A-Za-z_-]{20,}\.[0-9A-Za-z_-]{20,}"),
    "a password in an address": re.compile(
        r"\bpostgres(?:ql)?(?:\+asyncpg)?://[a-z]+:[^@/\s{}$<>.\"']{12,}@(?!127|localhost)"
    ),
}


def unpinned(lock: str) -> Iterator[str]:
    """Find requirements that name no exact version, or whose files nobody can check."""
    for block in re.split(r"\n(?=\S)", lock.strip()):
        name = block.partition("\n")[0].strip(" \\")
        if name.startswith("#"):
            continue
        if "==" not in name:
            yield f"{name}: no exact version"
        elif "--hash=sha256:" not in block:
            yield f"{name}: no hash"


def secrets_in(files: Iterable[tuple[Path, str]]) -> Iterator[str]:
    """Find what looks like a secret; the finding does not repeat it."""
    for path, text in files:
        for what, pattern in _SECRETS.items():
            for found in pattern.finditer(text):
                yield f"{path}:{text.count(chr(10), 0, found.start()) + 1}: {what}"


def unsafe_image(text: str) -> Iterator[str]:
    """Find what an image should not do: run as root, move with a tag, fetch what is not locked, carry a secret."""
    lines = [line.split("#")[0].strip() for line in text.replace("\\\n", " ").splitlines()]
    users = [line.split()[1] for line in lines if line.upper().startswith("USER ")]
    stages = {line.split()[-1] for line in lines if re.match(r"(?i)FROM \S+ AS \S+$", line)}
    if not users or users[-1].partition(":")[0] in {"root", "0"}:
        yield "runs as root"
    if not any(line.upper().startswith("HEALTHCHECK ") for line in lines):
        yield "cannot say how it is"
    for line in lines:
        base = line.split()[1] if line.upper().startswith("FROM ") else ""
        if base and base not in stages and (base.endswith(":latest") or not {":", "@"} & set(base)):
            yield f"moves with its base: {line}"
        if "pip install" in line and not re.search(r"--require-hashes|--no-deps", line):
            yield f"installs what nobody has locked: {line}"
        if line.upper().startswith("ADD ") and "//" in line:
            yield f"fetches while it is built: {line}"
        if re.match(r"(?i)(ENV|ARG)\s+\w*(SECRET|PASSWORD|TOKEN|KEY)\w*\s*=\s*\S", line):
            yield f"carries a secret: {line.split('=')[0]}"


def findings() -> list[str]:
    """Return everything that is wrong with what is committed."""
    found = [f"{name}: {wrong}" for name in _LOCKS for wrong in unpinned((ROOT / name).read_text())]
    found += secrets_in(text_files())
    images = [path for path, _ in text_files() if path.name.startswith("Dockerfile")]
    found += [f"{path}: {wrong}" for path in images for wrong in unsafe_image(path.read_text())]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security_audit", description=__doc__)
    parser.add_argument("--strict", action="store_true", help="not having asked for known weaknesses is an error")
    options = parser.parse_args()
    found = findings()
    for wrong in found:
        print(f"  WRONG {wrong}")
    asked = _ask_for_known_weaknesses()
    print(
        f"security audit: findings={len(found)} known weaknesses {asked or 'not asked for: there is no pip-audit here'}"
    )
    return 1 if found or asked == "found" or (options.strict and not asked) else 0


def _ask_for_known_weaknesses() -> str:
    program = shutil.which("pip-audit")
    if program is None:
        return ""
    command = [program, "--require-hashes", "--disable-pip", "-r", str(ROOT / "requirements.lock")]
    done = subprocess.run(command, check=False, timeout=600)
    return "none" if done.returncode == 0 else "found"


if __name__ == "__main__":
    sys.exit(main())
