"""Makes every behaviour of this service of what it needs, each once: the order in which they are made follows from that."""

from dataclasses import dataclass
from functools import cached_property, partial

from payment_service.clients.reservations import ReservationsClient
from payment_service.flags import CIRCUIT_BREAKER, PAYMENT_RETRIES, SETTLE_AT_THE_DOOR, WEBHOOK_INBOX
from payment_service.gateway.paced import Pace, PacedGateway
from payment_service.gateway.stripe import StripeGateway
from payment_service.gateway.ways import Ways, breaker_policy, ways_to_stripe
from payment_service.metrics import Metrics
from payment_service.nudges import Nudges
from payment_service.payments.answers import Answers
from payment_service.payments.asking import Asking
from payment_service.payments.establishing import Establishing
from payment_service.payments.exporting import Exporting
from payment_service.payments.ledger import LedgerKeeping
from payment_service.payments.lifecycle import Lifecycle
from payment_service.payments.notifying import Notifying, capped_backoff
from payment_service.payments.reading import Reading
from payment_service.payments.reconciliation import Reconciliation, ReconciliationRules
from payment_service.payments.refunding import Refunding
from payment_service.payments.replays import Replays
from payment_service.payments.switchboard import Switchboard
from payment_service.payments.under_way import CallsUnderWay
from payment_service.settings import PaymentSettings
from payment_service.store import audit
from payment_service.webhooks.endpoints import EndpointWatch
from payment_service.webhooks.handlers import HANDLERS
from payment_service.webhooks.inbox import Inbox
from payment_service.webhooks.processing import Processing, ProcessingLimits
from payment_service.webhooks.replaying import Replaying, ReplayLimits
from shared.clock import Clock
from shared.database import Database
from shared.flags import Flags
from shared.invariant_watch import InvariantWatch


@dataclass(frozen=True)
class Ground:
    """What all behaviours stand on."""

    settings: PaymentSettings
    database: Database
    clock: Clock
    flags: Flags
    metrics: Metrics
    gateway: StripeGateway
    reservations: ReservationsClient
    nudges: Nudges


class Behaviours:
    """All that this service does, for one process."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    @cached_property
    def invariant_watch(self) -> InvariantWatch:
        return InvariantWatch(self.ground.database, audit.INVARIANTS, self.ground.metrics)

    # the way to Stripe

    @cached_property
    def switchboard(self) -> Switchboard:
        ground = self.ground
        return Switchboard(
            ground.database,
            breaker_policy(ground.settings),
            clock=ground.clock,
            enabled=partial(ground.flags.is_on, CIRCUIT_BREAKER),
            watch=ground.metrics,
            nudge=ground.nudges.breakers,
        )

    @cached_property
    def ways(self) -> Ways:
        ground = self.ground
        return ways_to_stripe(
            ground.settings,
            ground.gateway,
            self.switchboard.breakers,
            clock=ground.clock,
            retries_enabled=partial(ground.flags.is_on, PAYMENT_RETRIES),
            watch=ground.metrics,
        )

    @cached_property
    def looks(self) -> PacedGateway:
        settings = self.ground.settings
        return PacedGateway(self.ways.background, Pace(settings.webhook_looks_per_s, self.ground.clock))

    # payments

    @cached_property
    def answers(self) -> Answers:
        return Answers(self.ground.settings.stripe_publishable_key)

    @cached_property
    def asking(self) -> Asking:
        return Asking(self.ground.database, self.ways.background, nudge=self.ground.nudges.news)

    @cached_property
    def asking_in_turn(self) -> Asking:
        return Asking(self.ground.database, self.looks, nudge=self.ground.nudges.news)

    @cached_property
    def under_way(self) -> CallsUnderWay:
        return CallsUnderWay()

    @cached_property
    def lifecycle(self) -> Lifecycle:
        database, settings = self.ground.database, self.ground.settings
        return Lifecycle(
            database,
            self.ways.interactive,
            self.answers,
            establishing=Establishing(
                database,
                self.ways.interactive,
                key_trusted_h=settings.stripe_key_trusted_h,
                answer_wait_s=settings.outbox_answered_wait_s,
            ),
            asking=self.asking,
            under_way=self.under_way,
            budget_s=settings.gateway_budget_s,
            answer_wait_s=settings.outbox_answered_wait_s,
            nudge=self.ground.nudges.news,
        )

    @cached_property
    def exporting(self) -> Exporting:
        ground = self.ground
        return Exporting(ground.database, self.ways.background, budget_s=ground.settings.gateway_budget_s)

    @cached_property
    def ledger_keeping(self) -> LedgerKeeping:
        return LedgerKeeping(self.ground.database)

    @cached_property
    def refunding(self) -> Refunding:
        settings = self.ground.settings
        return Refunding(
            self.ground.database,
            self.ways.background,
            self.answers,
            key_trusted_h=settings.stripe_key_trusted_h,
            budget_s=settings.gateway_budget_s,
            nudge=self.ground.nudges.news,
        )

    @cached_property
    def reading(self) -> Reading:
        settings = self.ground.settings
        return Reading(
            self.ground.database,
            self.ways.background,
            self.answers,
            self.asking_in_turn,
            interval_s=settings.refresh_interval_s,
            budget_s=settings.refresh_budget_s,
        )

    @cached_property
    def replays(self) -> Replays:
        ground = self.ground
        return Replays(ground.database, self.answers, ground.metrics, lease_s=ground.settings.idempotency_lease_s)

    @cached_property
    def notifying(self) -> Notifying:
        ground, settings = self.ground, self.ground.settings
        return Notifying(
            ground.database,
            ground.reservations,
            ground.metrics,
            batch=settings.outbox_batch_size,
            lease_s=settings.outbox_lease_seconds,
            backoff=capped_backoff(settings.outbox_backoff_first_s, settings.outbox_backoff_max_s),
        )

    @cached_property
    def reconciliation(self) -> Reconciliation:
        ground, settings = self.ground, self.ground.settings
        rules = ReconciliationRules(
            interval_s=settings.reconcile_interval_seconds,
            lease_s=settings.webhook_lease_seconds,
            budget_s=settings.background_budget_s,
            overlap_s=settings.reconcile_overlap_seconds,
            events_settle_s=settings.reconcile_settle_seconds,
            orphan_after_s=settings.orphan_after_seconds,
            batch=settings.reconcile_batch_size,
            key_trusted_s=settings.stripe_key_trusted_h * 3600,
            event_types=tuple(HANDLERS),
        )
        return Reconciliation(
            ground.database,
            self.ways.background,
            self.asking_in_turn,
            ground.metrics,
            rules,
            nudge_webhooks=ground.nudges.webhooks,
        )

    # webhooks

    @cached_property
    def inbox(self) -> Inbox:
        ground, settings = self.ground, self.ground.settings
        return Inbox(
            ground.database,
            self.processing,
            ground.metrics,
            secrets=[secret.get_secret_value() for secret in settings.stripe_webhook_secrets],
            tolerance_s=settings.webhook_tolerance_s,
            clock=ground.clock,
            livemode=settings.livemode,
            under_way=self.under_way,
            at_the_door=partial(ground.flags.is_on, SETTLE_AT_THE_DOOR),
            inline=lambda: not ground.flags.is_on(WEBHOOK_INBOX),
            nudge=ground.nudges.webhooks,
            nudge_news=ground.nudges.news,
        )

    @cached_property
    def processing(self) -> Processing:
        ground, settings = self.ground, self.ground.settings
        return Processing(
            ground.database,
            self.looks,
            ground.metrics,
            ProcessingLimits.of(settings),
            backoff=capped_backoff(settings.webhook_backoff_first_s, settings.webhook_backoff_max_s),
            nudge_news=ground.nudges.news,
        )

    @cached_property
    def replaying(self) -> Replaying:
        ground = self.ground
        return Replaying(ground.database, ReplayLimits.of(ground.settings), nudge=ground.nudges.webhooks)

    @cached_property
    def endpoints(self) -> EndpointWatch:
        ground = self.ground
        return EndpointWatch(ground.gateway, ground.metrics, our_url=ground.settings.stripe_webhook_url)
