"""The settings that both services read from the environment; each service adds its own."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# As many bytes as the hash has that signs with them (RFC 7518 asks for that): what is shorter may be guessed from what it
# has signed, and what is empty was forgotten.
SECRET_MIN = 32
TOO_SHORT = f"a secret has at least {SECRET_MIN} characters"


def _long_enough(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < SECRET_MIN:
        raise ValueError(TOO_SHORT)
    return secret


OptionalSecret = Annotated[SecretStr, AfterValidator(_long_enough)]


class SharedSettings(BaseSettings):
    """Environment names are the field names in upper case; nothing is read from files."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    host: str = Field("127.0.0.1", description="the address to listen on; loopback unless you say otherwise")
    redis_url: str = Field("", description="empty: run without Redis")
    database_pool_size: int = Field(
        8, ge=1, le=64, description="more connections hide queueing, they do not shorten it"
    )
    database_pool_timeout_s: float = Field(
        2.0, gt=0, description="a request waits this long for a connection, then 503"
    )
    auth_jwt_secret: OptionalSecret = Field(
        SecretStr(""),
        description="HS256 secret of customer and operator tokens; 32 characters or more; this, or AUTH_JWKS_URL, or both",
    )
    auth_jwks_url: str = Field(
        "",
        validate_default=True,
        description="where the identity provider publishes its public keys (RS, PS, ES, EdDSA)",
    )
    auth_jwks_keep_seconds: float = Field(
        300.0,
        gt=0,
        description="how long those keys are believed before they are asked for again; unknown ones at once",
    )
    auth_jwt_leeway_s: float = Field(5.0, ge=0, le=120, description="how far the provider's clock may be off")
    auth_jwt_issuer: str = Field("", description="checked when set")
    auth_jwt_audience: str = Field("", description="checked when set")
    internal_signing_keys: Annotated[tuple[tuple[str, SecretStr], ...], NoDecode] = Field(
        description="`id:secret` list, comma separated, secrets of 32 characters or more; the first one signs, all of them verify"
    )
    internal_bearer_secret: OptionalSecret = Field(
        SecretStr(""),
        description="used and accepted only while flag `signed_internal_calls` is off on that side; 32 characters or more",
    )
    invariants_check_seconds: float = Field(
        300.0, gt=0, description="how often the invariants are checked in the background; seconds of database time each"
    )
    start_patience_s: float = Field(
        0.0, ge=0, description="so long a start waits for a database that is away or not yet migrated; then it gives up"
    )
    shutdown_notice_s: float = Field(
        0.0,
        ge=0,
        description="SIGTERM: so long `/readyz` says draining while calls are still taken; behind a balancer 5",
    )
    shutdown_grace_s: int = Field(
        20, ge=1, description="how long SIGTERM waits for answers in flight, and after them for work in the background"
    )
    log_level: str = Field("INFO", description="the least serious level that is written")
    log_json: bool = Field(True, description="one JSON object a line; off: coloured text for people")
    trace_sample_ratio: float = Field(0.01, ge=0, le=1, description="the share of traces that are recorded")
    otel_exporter_otlp_endpoint: str = Field("", description="empty: spans are made (ids in logs) but not exported")

    @field_validator("auth_jwks_url")
    @classmethod
    def _somebody_signs_tokens(cls, value: str, info: ValidationInfo) -> str:
        secret = info.data.get("auth_jwt_secret")
        if not value and not (secret and secret.get_secret_value()):
            raise ValueError("without it, set AUTH_JWT_SECRET: nobody could sign in")
        return value

    @field_validator("internal_signing_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition(":") for part in value.split(",") if part.strip()]
        if not pairs or any(not key_id or not secret for key_id, _, secret in pairs):
            raise ValueError("expected `id:secret[,id:secret]`")
        if any(len(secret) < SECRET_MIN for _, _, secret in pairs):
            raise ValueError(TOO_SHORT)
        return tuple((key_id, SecretStr(secret)) for key_id, _, secret in pairs)


def comma_list(value: object) -> object:
    """Read `a,b` as `("a", "b")`; for fields marked `NoDecode`."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
