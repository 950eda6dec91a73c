"""Every knob of the sandbox, read from the environment once, so that a launcher needs no file to start it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

API_VERSION = "2026-10-28.endive"
"""Stripe's API version whose shapes we answer; the one the pinned SDK sends."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `SANDBOX_*` in the environment says."""

    port: int
    state_path: Path
    secret_key: str
    publishable_key: str
    host: str = "127.0.0.1"
    webhook_url: str = ""  # empty: events are kept and listed, nothing is delivered
    webhook_secret: str = ""
    seed: str = ""  # empty: ids from the system's randomness; set: the same ids in every run from an empty state
    fault_script: str = ""  # path of a JSON list of faults, in force from the first start on
    rate_limit_per_s: float = 0.0  # 0: no limit (Stripe's own test mode allows 25 a second)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings.

        Raises `SystemExit` with a sentence for a person when one is missing or wrong.
        """
        required = ("SANDBOX_PORT", "SANDBOX_STATE", "SANDBOX_SECRET_KEY", "SANDBOX_PUBLISHABLE_KEY")
        missing = [name for name in required if not environ.get(name)]
        if missing:
            raise SystemExit(f"stripe sandbox: please set {', '.join(missing)}")
        settings = cls(
            port=int(environ["SANDBOX_PORT"]),
            state_path=Path(environ["SANDBOX_STATE"]),
            secret_key=environ["SANDBOX_SECRET_KEY"],
            publishable_key=environ["SANDBOX_PUBLISHABLE_KEY"],
            host=environ.get("SANDBOX_HOST") or "127.0.0.1",
            webhook_url=environ.get("SANDBOX_WEBHOOK_URL", ""),
            webhook_secret=environ.get("SANDBOX_WEBHOOK_SECRET", ""),
            seed=environ.get("SANDBOX_SEED", ""),
            fault_script=environ.get("SANDBOX_FAULTS", ""),
            rate_limit_per_s=float(environ.get("SANDBOX_RATE_LIMIT_PER_S") or 0),
        )
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse keys of a live account: whoever mixes them up should learn it here and not at the bank."""
        wanted = (
            ("SANDBOX_SECRET_KEY", self.secret_key, "sk_test_"),
            ("SANDBOX_PUBLISHABLE_KEY", self.publishable_key, "pk_test_"),
        )
        for name, value, prefix in wanted:
            if not value.startswith(prefix):
                raise SystemExit(f"stripe sandbox: {name} must start with {prefix}")
        if self.webhook_url and not self.webhook_secret:
            raise SystemExit("stripe sandbox: SANDBOX_WEBHOOK_URL needs SANDBOX_WEBHOOK_SECRET")
