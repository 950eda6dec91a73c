"""Every knob of the payment service: unit in the name, default, and why."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.settings import SharedSettings, comma_list


class PaymentSettings(SharedSettings):
    """Read from the environment; the full list with what each does is docs/reference/settings.md."""

    payment_database_url: SecretStr = Field(description="postgresql+asyncpg://...")
    payment_port: int = Field(8001, ge=1, le=65535, description="where this service listens")
    reservation_service_url: str = Field("http://127.0.0.1:8000", description="who is told what happened to payments")
    reservation_connect_timeout_s: float = Field(
        2.0, gt=0, description="a neighbour that does not pick up by then is away"
    )
    reservation_timeout_s: float = Field(5.0, gt=0, description="one delivery of one payment event")

    stripe_api_base: str = Field("", description="empty: Stripe's own; else the sandbox")
    stripe_secret_key: SecretStr = Field(description="sk_... or rk_...; its prefix says whether money is real")
    stripe_publishable_key: str = Field(description="pk_..., handed to guests' browsers")
    stripe_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        min_length=1, description="comma list; the old and the new one overlap while a secret is rotated"
    )
    stripe_timeout_s: float = Field(5.0, gt=0, description="one attempt of one call")
    stripe_connect_timeout_s: float = Field(2.0, gt=0, description="a call that never connected was surely not sent")
    stripe_key_trusted_h: float = Field(
        23.0, gt=0, description="Stripe may forget a key after 24 h; an older call is looked up instead of repeated"
    )

    retry_max_attempts: int = Field(3, ge=1, description="of one call to Stripe, the first one included")
    retry_first_wait_s: float = Field(1.0, ge=0, description="no wait is shorter")
    retry_max_wait_s: float = Field(10.0, ge=0, description="no wait is longer, unless Stripe asks for it")
    breaker_error_rate: float = Field(0.5, gt=0, le=1, description="so large a part of the calls fails: it opens")
    breaker_min_calls: int = Field(10, ge=1, description="in the window of one process; fewer say nothing")
    breaker_window_s: float = Field(10.0, gt=0, description="how far back calls count")
    breaker_rest_s: float = Field(30.0, gt=0, description="nobody is sent for so long, then one call may try")
    breaker_probe_lease_s: float = Field(
        15.0, gt=0, description="longer than one attempt; a call that tries and dies is replaced by then"
    )
    breaker_ramp_s: float = Field(
        5.0, gt=0, description="after healing so long until all calls pass; told waits differ by up to as much"
    )
    breaker_share_seconds: float = Field(0.5, gt=0, description="how soon the other processes know")
    gateway_budget_s: float = Field(
        9.0, gt=0, description="all attempts of one behaviour; the internal caller waits 10 s"
    )
    background_budget_s: float = Field(
        30.0, gt=0, description="the same for work that nobody waits for; under the lease"
    )
    refresh_interval_s: float = Field(2.0, gt=0, description="a payment that is read again and again is asked so often")
    refresh_budget_s: float = Field(4.0, gt=0, description="a read that takes longer answers what is stored")

    idempotency_lease_s: float = Field(15.0, gt=0, description="longer than the internal caller waits (10 s)")
    idempotency_keep_days: int = Field(30, ge=1, description="at least a day is promised; a month costs little")

    webhook_keep_days: int = Field(
        90, ge=31, description="a handled event is forgotten after so long; Stripe itself lists events for 30 days"
    )
    webhook_tolerance_s: int = Field(300, ge=1, le=3600, description="how far a signature's time may be off, both ways")
    webhook_max_attempts: int = Field(12, ge=1, description="then the event is dead, with a reason, for an operator")
    webhook_weather_max_age_h: float = Field(
        72.0, gt=0, description="an event that waits for Stripe itself is not buried before that"
    )
    webhook_poll_seconds: float = Field(1.0, gt=0, description="events are nudged; the poll finds what a crash left")
    webhook_batch_size: int = Field(8, ge=1, le=50, description="handled at the same time; as many as connections")
    webhook_lease_seconds: float = Field(45.0, gt=0, description="longer than background_budget_s")
    webhook_backoff_first_s: float = Field(1.0, gt=0, description="the wait after the first failure; it doubles")
    webhook_backoff_max_s: float = Field(60.0, gt=0, description="Stripe back after an outage is noticed by then")
    webhook_looks_per_s: float = Field(
        20.0,
        gt=0,
        description="questions to Stripe that are not part of a payment (about events, by readers, to compare), of each "
        "process; Stripe's test mode allows 25/s in all",
    )
    webhook_replay_batch_size: int = Field(
        50, ge=1, le=1000, description="events of one replay on their way at a time, so that new events never starve"
    )
    webhook_replay_poll_seconds: float = Field(1.0, gt=0, description="a replay sends its next events round so often")
    webhook_replay_max_events: int = Field(
        10_000, ge=1, description="one replay is about no more, the oldest first; plan another one for the rest"
    )
    webhook_replay_plan_valid_s: float = Field(900.0, gt=0, description="an older plan is not confirmed any more")
    webhook_types_check_seconds: float = Field(
        300.0, gt=0, description="how often Stripe is asked, from the start on, whether it sends every type we need"
    )
    stripe_webhook_url: str = Field(
        "", description="our webhook endpoint's address at Stripe; empty: every enabled endpoint of the account counts"
    )

    outbox_poll_seconds: float = Field(1.0, gt=0, description="news is nudged; the poll finds what a crash left")
    outbox_batch_size: int = Field(8, ge=1, le=50, description="told at the same time; as many as connections")
    outbox_answered_wait_s: float = Field(
        2.0, ge=0, description="what an answer has just said is told only when the other side has not said so by then"
    )
    outbox_lease_seconds: float = Field(30.0, gt=0, description="longer than reservation_timeout_s")
    outbox_backoff_first_s: float = Field(1.0, gt=0, description="the wait after the first failure; it doubles")
    outbox_backoff_max_s: float = Field(60.0, gt=0, description="rows never die: money news is told sooner or later")

    reconcile_interval_seconds: float = Field(
        60.0, gt=0, description="how often Stripe is compared with our tables, whatever webhooks did or did not tell"
    )
    reconcile_settle_seconds: float = Field(
        60.0, ge=0, description="events younger than this may still be on their way, so they are not called missing"
    )
    reconcile_overlap_seconds: float = Field(
        900.0, ge=0, description="how far each comparison reads back over the last one: Stripe may list an event late"
    )
    reconcile_batch_size: int = Field(8, ge=1, le=50, description="payments asked about at the same time")
    orphan_after_seconds: float = Field(
        3600.0, gt=0, description="a PaymentIntent of ours that no payment knows by then is cancelled or reported"
    )
    stripe_system_name: str = Field(
        "holdfast",
        min_length=1,
        max_length=100,
        description="marks our objects; installations sharing an account differ",
    )

    flags_refresh_seconds: float = Field(
        1.0, gt=0, description="how soon a flag turned in another process is seen here"
    )
    gauges_refresh_seconds: float = Field(5.0, gt=0, description="how often backlogs are counted")

    @field_validator("stripe_webhook_secrets", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        return comma_list(value)

    @property
    def livemode(self) -> bool:
        """Whether money is real; events of the other mode are not ours."""
        return self.stripe_secret_key.get_secret_value().partition("_")[2].startswith("live_")
