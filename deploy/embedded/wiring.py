"""Which environment each process gets: the embedded parts, or the ones the user set instead, and only what it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.credentials import Credentials
from deploy.embedded.ports import LOOPBACK

SERVICES = ("payment", "reservation")

STRIPE_API = "https://api.stripe.com"

_STRIPE = "STRIPE_"
_STRIPE_SWITCHES = ("STRIPE_SECRET_KEY", "STRIPE_API_BASE")
_DATABASES = {"payment": "PAYMENT_DATABASE_URL", "reservation": "RESERVATION_DATABASE_URL"}
# What one process must not see because it belongs to another.
_PRIVATE = {
    "payment": ("RESERVATION_DATABASE_URL", "GUEST_TOKEN_SECRET"),
    "reservation": ("PAYMENT_DATABASE_URL", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS", "STRIPE_API_BASE"),
}


@dataclass(frozen=True)
class Cashier:
    """Who takes the demo's card, and whether it may be shown one: only where no real money can move."""

    api_base: str
    may_pay: bool = True


@dataclass(frozen=True)
class Wiring:
    """The addresses and secrets of one stack. `environ` is the user's; what is set there wins over the embedded parts."""

    environ: Mapping[str, str]
    credentials: Credentials
    ports: Mapping[str, int]

    def database_url(self, service: str) -> str:
        """Return a service's database: the user's, else the embedded one under the service's own role."""
        if given := self.environ.get(_DATABASES[service]):
            return given
        role, password = self.database_owner(service)
        return f"postgresql+asyncpg://{role}:{password}@{LOOPBACK}:{self.ports['postgres']}/{role}"

    def database_owner(self, service: str) -> tuple[str, str]:
        """Return role (also the database's name) and password of a service's embedded database."""
        password: str = getattr(self.credentials, f"{service}_database_password")
        return f"holdfast_{service}", password

    def embedded_databases(self) -> tuple[str, ...]:
        return tuple(service for service in SERVICES if not self.environ.get(_DATABASES[service]))

    @property
    def embeds_redis(self) -> bool:
        """Whether the user left the choice to us; set but empty means: run without."""
        return "REDIS_URL" not in self.environ

    @property
    def embeds_stripe(self) -> bool:
        return not any(self.environ.get(name) for name in _STRIPE_SWITCHES)

    def url(self, name: str) -> str:
        return f"http://{LOOPBACK}:{self.ports[name]}"

    def service_env(self, service: str, *, redis_url: str) -> dict[str, str]:
        """Return the whole environment of `payment` or `reservation`."""
        secrets = self.credentials
        env = {
            **self.environ,
            "HOST": LOOPBACK,
            "PAYMENT_PORT": str(self.ports["payment"]),
            "RESERVATION_PORT": str(self.ports["reservation"]),
            "PAYMENT_SERVICE_URL": self.url("payment"),
            "RESERVATION_SERVICE_URL": self.url("reservation"),
            _DATABASES[service]: self.database_url(service),
            "REDIS_URL": self.environ.get("REDIS_URL", redis_url),
            "AUTH_JWT_SECRET": self.auth_jwt_secret,
            "GUEST_TOKEN_SECRET": self.environ.get("GUEST_TOKEN_SECRET") or secrets.guest_token_secret,
            "INTERNAL_SIGNING_KEYS": self.environ.get("INTERNAL_SIGNING_KEYS") or secrets.internal_signing_key,
            "INTERNAL_BEARER_SECRET": self.environ.get("INTERNAL_BEARER_SECRET") or secrets.internal_bearer_secret,
            **self._stripe_env(),
        }
        return {name: value for name, value in env.items() if name not in _PRIVATE[service]}

    @property
    def auth_jwt_secret(self) -> str:
        return self.environ.get("AUTH_JWT_SECRET") or self.credentials.auth_jwt_secret

    def _stripe_env(self) -> dict[str, str]:
        secrets = self.credentials
        if not self.embeds_stripe:
            given = {name: value for name, value in self.environ.items() if name.startswith(_STRIPE)}
            # Without an endpoint of their own at Stripe no webhook can come; the reconciler asks Stripe instead.
            return {"STRIPE_WEBHOOK_SECRETS": secrets.stripe_webhook_secret, **given}
        return {
            "STRIPE_API_BASE": self.url("sandbox"),
            "STRIPE_SECRET_KEY": secrets.stripe_secret_key,
            "STRIPE_PUBLISHABLE_KEY": secrets.stripe_publishable_key,
            "STRIPE_WEBHOOK_SECRETS": secrets.stripe_webhook_secret,
        }

    def cashier(self) -> Cashier:
        """Return where the demo pays: the sandbox, or the user's Stripe if its key is a test key."""
        if self.embeds_stripe:
            return Cashier(self.url("sandbox"))
        may_pay = self.environ.get("STRIPE_SECRET_KEY", "").startswith("sk_test")
        return Cashier(self.environ.get("STRIPE_API_BASE") or STRIPE_API, may_pay=may_pay)

    def sandbox_env(self, state: Path) -> dict[str, str]:
        """Return the environment of the Stripe sandbox, which keeps its book in the SQLite file `state`."""
        secrets = self.credentials
        return {
            **self.environ,
            "SANDBOX_HOST": LOOPBACK,
            "SANDBOX_PORT": str(self.ports["sandbox"]),
            "SANDBOX_STATE": str(state),
            "SANDBOX_SECRET_KEY": secrets.stripe_secret_key,
            "SANDBOX_PUBLISHABLE_KEY": secrets.stripe_publishable_key,
            "SANDBOX_WEBHOOK_URL": f"{self.url('payment')}/webhooks/stripe",
            "SANDBOX_WEBHOOK_SECRET": secrets.stripe_webhook_secret,
        }
