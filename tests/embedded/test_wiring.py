"""Who gets which address and secret: the user's parts win one by one, and no process sees what is another's."""

import pytest

from deploy.embedded.credentials import Credentials
from deploy.embedded.wiring import Wiring

_NAMES = list(Credentials.__dataclass_fields__)
_CREDENTIALS = Credentials(**{name: f"made-{name}" for name in _NAMES})
_PORTS = {"postgres": 1, "valkey": 2, "sandbox": 3, "payment": 4, "reservation": 5}


def _wiring(**environ: str) -> Wiring:
    return Wiring(environ, _CREDENTIALS, _PORTS)


def test_by_default_everything_is_embedded() -> None:
    """Without any setting the services get the embedded parts."""
    wiring = _wiring()
    payment = wiring.service_env("payment", redis_url="redis://embedded")
    assert wiring.embedded_databases() == ("payment", "reservation")
    assert payment["PAYMENT_DATABASE_URL"].endswith("@127.0.0.1:1/holdfast_payment")
    assert payment["STRIPE_API_BASE"] == "http://127.0.0.1:3"
    assert payment["STRIPE_SECRET_KEY"] == "made-stripe_secret_key"
    assert payment["REDIS_URL"] == "redis://embedded"
    assert wiring.cashier().api_base == "http://127.0.0.1:3"


def test_one_database_of_the_user_s_own_leaves_the_other_embedded() -> None:
    """Parts are replaced one by one."""
    wiring = _wiring(PAYMENT_DATABASE_URL="postgresql+asyncpg://theirs")
    assert wiring.embedded_databases() == ("reservation",)
    assert wiring.database_url("payment") == "postgresql+asyncpg://theirs"


def test_an_empty_redis_url_means_without() -> None:
    """Set but empty is an answer, not a gap."""
    wiring = _wiring(REDIS_URL="")
    assert not wiring.embeds_redis
    assert wiring.service_env("reservation", redis_url="redis://embedded")["REDIS_URL"] == ""


def test_a_stripe_account_replaces_the_sandbox() -> None:
    """With a key of one's own no sandbox address leaks in, and webhooks still have a secret to be checked with."""
    wiring = _wiring(STRIPE_SECRET_KEY="sk_test_mine", STRIPE_PUBLISHABLE_KEY="pk_test_mine")
    env = wiring.service_env("payment", redis_url="")
    assert not wiring.embeds_stripe
    assert "STRIPE_API_BASE" not in env
    assert env["STRIPE_SECRET_KEY"] == "sk_test_mine"
    assert env["STRIPE_WEBHOOK_SECRETS"] == "made-stripe_webhook_secret"


@pytest.mark.parametrize(("key", "may_pay"), [("sk_test_1", True), ("rk_live_1", False), ("sk_live_1", False)])
def test_the_demo_pays_with_test_keys_only(key: str, *, may_pay: bool) -> None:
    """A live key is never used for a demo card."""
    assert _wiring(STRIPE_SECRET_KEY=key).cashier().may_pay is may_pay


def test_a_process_does_not_see_what_is_another_s() -> None:
    """reservation_service holds no Stripe secret, payment_service no guest secret, neither the other's database."""
    given = {"RESERVATION_DATABASE_URL": "r", "PAYMENT_DATABASE_URL": "p", "FLAG_METRICS": "off"}
    reservation = _wiring(**given).service_env("reservation", redis_url="")
    payment = _wiring(**given).service_env("payment", redis_url="")
    assert not {"STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRETS", "PAYMENT_DATABASE_URL"} & reservation.keys()
    assert not {"GUEST_TOKEN_SECRET", "RESERVATION_DATABASE_URL"} & payment.keys()
    assert reservation["FLAG_METRICS"] == payment["FLAG_METRICS"] == "off"


def test_the_sandbox_knows_where_to_send_webhooks() -> None:
    """It reports to payment_service, signed with the secret payment_service checks."""
    wiring = _wiring()
    from pathlib import Path

    sandbox = wiring.sandbox_env(Path("/state/book.sqlite"))
    assert sandbox["SANDBOX_WEBHOOK_URL"] == "http://127.0.0.1:4/webhooks/stripe"
    payment = wiring.service_env("payment", redis_url="")
    assert sandbox["SANDBOX_WEBHOOK_SECRET"] == payment["STRIPE_WEBHOOK_SECRETS"]
