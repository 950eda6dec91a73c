"""The secrets of one clone: made once, readable by their owner only, never printed."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FILE_NAME = "credentials.json"
_ENTROPY_BYTES = 32


@dataclass(frozen=True, repr=False)
class Credentials:
    """Every secret that the embedded parts share with the two services."""

    auth_jwt_secret: str
    guest_token_secret: str
    internal_signing_key: str
    internal_bearer_secret: str
    stripe_secret_key: str
    stripe_publishable_key: str
    stripe_webhook_secret: str
    postgres_password: str
    reservation_database_password: str
    payment_database_password: str


# What a secret begins with, where its reader expects a form: Stripe's kinds of key, and `id:secret` for signatures.
_PREFIXES = {
    "internal_signing_key": "embedded-1:",
    "stripe_secret_key": "sk_test_",
    "stripe_publishable_key": "pk_test_",
    "stripe_webhook_secret": "whsec_",
}


def load_or_make(folder: Path) -> Credentials:
    """Return the secrets kept in `folder`; make those that are missing (all of them, on the first run)."""
    path = folder / FILE_NAME
    kept = _read(path)
    values = {field.name: kept.get(field.name) or _make(field.name) for field in fields(Credentials)}
    credentials = Credentials(**values)
    if asdict(credentials) != kept:
        write_private(path, json.dumps(asdict(credentials), indent=2))
    return credentials


def load(folder: Path) -> Credentials | None:
    """Return the secrets kept in `folder`, None when it has none (no run yet)."""
    kept = _read(folder / FILE_NAME)
    return Credentials(**{field.name: kept.get(field.name, "") for field in fields(Credentials)}) if kept else None


def _make(name: str) -> str:
    return _PREFIXES.get(name, "") + secrets.token_hex(_ENTROPY_BYTES)


def _read(path: Path) -> dict[str, str]:
    try:
        kept: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return kept


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
