"""Every knob of the reservation service: unit in the name, default, and why."""

import re
from ipaddress import ip_network
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.settings import SECRET_MIN, SharedSettings, comma_list

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


class ReservationSettings(SharedSettings):
    """Read from the environment; the full list with what each does is docs/reference/settings.md."""

    reservation_database_url: SecretStr = Field(description="postgresql+asyncpg://...")
    reservation_port: int = Field(8000, ge=1, le=65535, description="where this service listens")
    payment_service_url: str = Field("http://127.0.0.1:8001", description="where payment_service listens")
    guest_token_secret: SecretStr = Field(
        min_length=SECRET_MIN,
        description="HS256 secret of anonymous customers' tokens, used for nothing else; 32 characters or more",
    )
    guest_token_days: int = Field(30, ge=1, description="how long a guest can come back to a booking")

    lookup_token_minutes: int = Field(60, ge=1, description="how long a booking that was looked up stays open")

    hold_ttl_seconds: int = Field(600, ge=1, le=1800, description="how long a hold lasts unless the experience says so")
    hold_lifetime_max_seconds: int = Field(1800, ge=1, description="no extension keeps a hold longer than this")
    hold_extensions_max: int = Field(2, ge=0, description="how often one hold may be extended")
    max_active_holds_of_reseller: int = Field(1000, ge=1, description="the same per API key, which books for many")
    max_active_holds: int = Field(5, ge=1, description="per customer; soft across processes")

    abandoned_hold_seconds: int = Field(
        60, ge=0, description="from then on one's own hold makes way for a newer one that would find no room beside it"
    )

    payment_window_seconds: int = Field(900, ge=1, description="how long a pending booking keeps its seats unpaid")
    unknown_grace_seconds: int = Field(
        600, ge=0, description="how much longer, while an unknown payment is asked about"
    )
    async_payment_max_seconds: int = Field(0, ge=0, description="how long past that a payment may stay `processing`")
    capture_margin_seconds: int = Field(
        3600, ge=0, description="an authorised booking is tried until so long before its authorisation ends"
    )
    convert_budget_s: float = Field(11.0, gt=0, description="convert answers `processing` by then")
    internal_call_timeout_s: float = Field(10.0, gt=0, description="one call to payment_service")

    timeline_patience_s: float = Field(
        2.0, gt=0, description="a timeline waits so long for payment_service's part, then shows the rest"
    )

    saga_lease_seconds: float = Field(45.0, gt=0, description="longer than everything one step may wait for")
    saga_poll_seconds: float = Field(1.0, gt=0, description="how often sagas that fell due are looked for")
    saga_count_seconds: float = Field(
        15.0, gt=0, description="how often the sagas that need a person are counted for the metrics"
    )
    saga_batch_size: int = Field(20, ge=1, description="how many sagas one process has in hand at once")
    saga_attempts_max: int = Field(50, ge=1, description="a step that failed this often in a row needs attention")
    saga_backoff_max_s: float = Field(30.0, gt=0, description="the longest wait between two tries of one step")
    payment_ask_first_s: float = Field(
        30.0,
        gt=0,
        description="a booking that waits for its guest asks how the payment stands after at most so long, should no "
        "message come; sooner would mostly ask about guests who are still typing",
    )
    payment_ask_max_s: float = Field(60.0, gt=0, description="the longest wait between two such questions")
    refund_look_max_seconds: float = Field(
        3600.0, gt=0, description="the same when the seats are back and only money is left, or is on its way back"
    )

    admission_queue_max: int = Field(
        4000, ge=0, description="callers who may wait to be admitted in one process; the next one is told 503"
    )
    admission_deadline_s: float = Field(5.0, gt=0, description="how long one of them waits for an answer")
    admission_price_s: float = Field(
        2.0,
        gt=0,
        description="what looking up price, discount or key may take, each, before a hold waits for its seats",
    )
    admission_group_s: float = Field(
        2.0, gt=0, description="what writing one group may take; whoever has less time left does not join it"
    )

    slot_lock_ttl_ms: int = Field(
        2000,
        ge=50,
        description="a lock whose holder vanished is in nobody's way for longer; a group takes milliseconds",
    )
    redis_budget_ms: int = Field(
        30, ge=1, description="what Redis may cost one request or one group of holds; then it goes on without"
    )

    rate_limit_holds_per_minute: int = Field(10, ge=1, description="POST /v1/holds, per customer")
    rate_limit_guest_holds_per_minute: int = Field(
        100, ge=1, description="POST /v1/holds by anonymous guests, per client address"
    )
    rate_limit_guest_sessions_per_minute: int = Field(
        20, ge=1, description="POST /v1/guest-sessions, per client address"
    )
    rate_limit_lookups_per_hour: int = Field(
        20, ge=1, description="POST /v1/reservations/lookup, per client address: a reference is no password"
    )
    rate_limit_lookups_per_reference: int = Field(
        5, ge=1, description="the same in an hour per reference, whether there is such a one or not"
    )
    rate_limit_caller_per_second: int = Field(
        100, ge=1, description="everything under /v1, per customer, or per client address without a token"
    )
    rate_limit_caller_burst: int = Field(200, ge=1, description="how many of those may come at once")
    rate_limit_caller_per_day: int = Field(10_000, ge=1, description="the same callers, over a day")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="addresses or networks whose X-Forwarded-For is believed, comma separated; nobody's by default",
    )

    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="web pages that may call this API from a browser, `https://shop.example`, comma separated; none"
    )

    sweep_interval_seconds: float = Field(
        5.0, gt=0, description="how often lapsed holds are tidied up; their seats do not wait for it"
    )
    sweep_batch_size: int = Field(100, ge=1, description="lapsed holds per transaction: keeps its locks short")
    slot_cancellation_poll_seconds: float = Field(
        1.0, gt=0, description="how often the bookings of cancelled slots are looked after"
    )
    slot_cancellation_batch_size: int = Field(100, ge=1, description="bookings of a cancelled slot per transaction")
    idempotency_keep_days: int = Field(
        30, ge=1, description="a key of a booking that is over, or long confirmed, is forgotten after so long"
    )
    forget_keys_poll_seconds: float = Field(
        10.0, gt=0, description="how often the next thousand keys are looked at; ten million take a day"
    )
    stream_poll_seconds: float = Field(
        0.5, gt=0, description="how often changed slots are looked for while somebody listens to the stream"
    )
    stream_heartbeat_s: float = Field(15.0, gt=0, description="a silent stream sends a comment this often")
    stream_listeners_max: int = Field(1000, ge=0, description="open availability streams per process; then 503")
    api_keys_refresh_seconds: float = Field(
        1.0, gt=0, description="how soon a key that ended elsewhere opens nothing here"
    )
    flags_refresh_seconds: float = Field(1.0, gt=0, description="how soon a flag set in another process is seen here")

    @field_validator("trusted_proxies", "cors_allowed_origins", mode="before")
    @classmethod
    def _split_lists(cls, value: object) -> object:
        return comma_list(value)

    @field_validator("cors_allowed_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError("expected origins such as https://shop.example, and no `*`")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)  # raises ValueError, which says what is wrong
        return value
