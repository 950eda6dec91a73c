CREATE SEQUENCE question_numbers;

CREATE TABLE payments (
    id UUID NOT NULL, 
    reservation_id UUID NOT NULL, 
    generation INTEGER NOT NULL, 
    status TEXT NOT NULL, 
    version INTEGER DEFAULT '0' NOT NULL, 
    amount BIGINT NOT NULL, 
    currency TEXT NOT NULL, 
    capture_method TEXT NOT NULL, 
    captured BIGINT DEFAULT '0' NOT NULL, 
    refunded BIGINT DEFAULT '0' NOT NULL, 
    intent_id TEXT, 
    client_secret TEXT, 
    decline_class TEXT, 
    refusal_code TEXT, 
    trouble TEXT, 
    capture_before TIMESTAMP WITH TIME ZONE, 
    cancel_requested_at TIMESTAMP WITH TIME ZONE, 
    refreshed_at TIMESTAMP WITH TIME ZONE, 
    question BIGINT DEFAULT '0' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT payments_amount CHECK (amount > 0 OR status = 'canceled'), 
    CONSTRAINT payments_status CHECK (status IN ('none', 'setup_failed', 'requires_payment', 'requires_action', 'processing', 'authorized', 'captured', 'refund_pending', 'partially_refunded', 'refunded', 'refund_failed', 'canceled', 'disputed', 'dispute_lost', 'external')), 
    CONSTRAINT payments_captured CHECK (0 <= captured AND captured <= amount), 
    CONSTRAINT payments_refunded CHECK (0 <= refunded AND refunded <= captured), 
    CONSTRAINT payments_intent UNIQUE (intent_id), 
    CONSTRAINT payments_generation UNIQUE (reservation_id, generation)
)
 WITH (fillfactor = 80);

COMMENT ON COLUMN payments.id IS 'chosen by the caller, so that a retry means the same payment';

COMMENT ON COLUMN payments.version IS 'grows with every change told';

COMMENT ON COLUMN payments.amount IS 'minor units; 0 only for a cancel that came first';

COMMENT ON COLUMN payments.intent_id IS 'Stripe''s id; empty until an answer or an event has named it';

COMMENT ON COLUMN payments.client_secret IS 'for the guest''s browser; never logged';

COMMENT ON COLUMN payments.refusal_code IS 'why Stripe refused to set the payment up';

COMMENT ON COLUMN payments.trouble IS 'Stripe''s object contradicts ours: a person must look';

COMMENT ON COLUMN payments.question IS 'which answer is shown';

CREATE TABLE payment_calls (
    question BIGSERIAL NOT NULL, 
    payment_id UUID NOT NULL, 
    step TEXT NOT NULL, 
    key_number INTEGER NOT NULL, 
    asked_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    answered_at TIMESTAMP WITH TIME ZONE, 
    outcome TEXT, 
    code TEXT, 
    key_is_spent BOOLEAN DEFAULT 'false' NOT NULL, 
    PRIMARY KEY (question), 
    CONSTRAINT payment_calls_outcome CHECK (outcome IS NULL OR outcome IN ('ok', 'declined', 'not_sent', 'unknown', 'too_late')), 
    FOREIGN KEY(payment_id) REFERENCES payments (id)
);

COMMENT ON COLUMN payment_calls.question IS 'of question_numbers';

COMMENT ON COLUMN payment_calls.key_number IS 'part of the key that Stripe saw';

COMMENT ON COLUMN payment_calls.outcome IS 'empty: sent or not, nobody has written it down';

COMMENT ON COLUMN payment_calls.key_is_spent IS 'the key only repeats a failure';

CREATE INDEX payment_calls_by_payment ON payment_calls (payment_id, question);

CREATE TABLE refunds (
    id UUID NOT NULL, 
    payment_id UUID NOT NULL, 
    amount BIGINT NOT NULL, 
    reason TEXT NOT NULL, 
    status TEXT NOT NULL, 
    stripe_refund_id TEXT, 
    failure TEXT, 
    question BIGINT DEFAULT '0' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT refunds_status CHECK (status IN ('requested', 'pending', 'succeeded', 'failed', 'canceled')), 
    CONSTRAINT refunds_amount CHECK (amount > 0), 
    FOREIGN KEY(payment_id) REFERENCES payments (id), 
    CONSTRAINT refunds_stripe_refund UNIQUE (stripe_refund_id)
);

COMMENT ON COLUMN refunds.id IS 'chosen by the caller; the same id is the same refund';

COMMENT ON COLUMN refunds.failure IS 'Stripe''s word for why it failed';

CREATE INDEX refunds_by_payment ON refunds (payment_id, created_at);

CREATE TABLE webhook_events (
    id UUID NOT NULL, 
    stripe_event_id TEXT NOT NULL, 
    type TEXT NOT NULL, 
    object_id TEXT NOT NULL, 
    intent_id TEXT NOT NULL, 
    livemode BOOLEAN NOT NULL, 
    status TEXT DEFAULT 'received' NOT NULL, 
    reason TEXT, 
    last_error TEXT, 
    deliveries INTEGER DEFAULT '1' NOT NULL, 
    payment_id UUID, 
    replayed_by TEXT, 
    received_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    processed_at TIMESTAMP WITH TIME ZONE, 
    due_at TIMESTAMP WITH TIME ZONE, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_epoch INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT webhook_events_due CHECK ((due_at IS NOT NULL) = (status = 'received')), 
    CONSTRAINT webhook_events_status CHECK (status IN ('received', 'processing', 'processed', 'ignored', 'dead')), 
    CONSTRAINT webhook_events_stripe_event UNIQUE (stripe_event_id)
);

COMMENT ON COLUMN webhook_events.intent_id IS 'of the payment that the object belongs to; may be empty';

COMMENT ON COLUMN webhook_events.reason IS 'why it was ignored, is waiting, or is dead';

COMMENT ON COLUMN webhook_events.last_error IS 'class names and codes only';

COMMENT ON COLUMN webhook_events.payment_id IS 'whose state it led to';

COMMENT ON COLUMN webhook_events.due_at IS 'null: nothing left to do';

CREATE INDEX webhook_events_by_payment ON webhook_events (payment_id);

CREATE INDEX webhook_events_claimable ON webhook_events (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE outbox (
    id UUID NOT NULL, 
    payment_id UUID NOT NULL, 
    version INTEGER NOT NULL, 
    status TEXT NOT NULL, 
    event JSONB NOT NULL, 
    receipt TEXT, 
    last_error TEXT, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    delivered_at TIMESTAMP WITH TIME ZONE, 
    due_at TIMESTAMP WITH TIME ZONE, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_epoch INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT outbox_never_dies CHECK ((due_at IS NULL) = (delivered_at IS NOT NULL)), 
    FOREIGN KEY(payment_id) REFERENCES payments (id), 
    CONSTRAINT outbox_version UNIQUE (payment_id, version)
);

COMMENT ON COLUMN outbox.status IS 'the payment''s, as of this version';

COMMENT ON COLUMN outbox.event IS 'the body to be sent: the full state, no secrets';

COMMENT ON COLUMN outbox.receipt IS 'applied, ignored, or superseded by a newer version';

COMMENT ON COLUMN outbox.due_at IS 'null: nothing left to do';

CREATE INDEX outbox_claimable ON outbox (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE idempotent_answers (
    route TEXT NOT NULL, 
    key TEXT NOT NULL, 
    fingerprint BYTEA NOT NULL, 
    payment_id UUID NOT NULL, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    outcome TEXT, 
    error JSONB, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (route, key)
);

COMMENT ON COLUMN idempotent_answers.outcome IS 'empty while the first request runs';

CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);

CREATE TABLE flag_overrides (
    name TEXT NOT NULL, 
    enabled BOOLEAN NOT NULL, 
    percentage SMALLINT DEFAULT '100' NOT NULL, 
    updated_by TEXT NOT NULL, 
    reason TEXT NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL, 
    PRIMARY KEY (name), 
    CONSTRAINT flag_overrides_percentage CHECK (percentage BETWEEN 0 AND 100)
);

CREATE TABLE breakers (
    name TEXT NOT NULL, 
    state TEXT DEFAULT 'closed' NOT NULL, 
    since TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    rests_until TIMESTAMP WITH TIME ZONE, 
    probe UUID, 
    probe_until TIMESTAMP WITH TIME ZONE, 
    reason TEXT DEFAULT '' NOT NULL, 
    forced TEXT, 
    forced_by TEXT, 
    PRIMARY KEY (name), 
    CONSTRAINT breakers_state CHECK (state IN ('closed', 'open')), 
    CONSTRAINT breakers_forced CHECK (forced IN ('closed', 'open')), 
    CONSTRAINT breakers_rest CHECK ((state = 'open') = (rests_until IS NOT NULL))
);

COMMENT ON COLUMN breakers.rests_until IS 'then one probe may try';

COMMENT ON COLUMN breakers.probe IS 'who tries: only its holder says how it went';

COMMENT ON COLUMN breakers.probe_until IS 'a lease: a dead one heals';

COMMENT ON COLUMN breakers.forced IS 'an operator holds it open or closed';

ALTER TABLE webhook_events ADD COLUMN replayed_at TIMESTAMP WITH TIME ZONE;

CREATE INDEX webhook_events_alike ON webhook_events (intent_id) WHERE due_at IS NOT NULL;

CREATE INDEX webhook_events_dead ON webhook_events (processed_at) WHERE status = 'dead';

CREATE TABLE webhook_replays (
    id UUID NOT NULL, 
    status TEXT NOT NULL, 
    total INTEGER DEFAULT '0' NOT NULL, 
    planned_by TEXT NOT NULL, 
    planned_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    expires_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    reason TEXT, 
    confirmed_by TEXT, 
    cancelled_by TEXT, 
    finished_at TIMESTAMP WITH TIME ZONE, 
    due_at TIMESTAMP WITH TIME ZONE, 
    PRIMARY KEY (id), 
    CONSTRAINT webhook_replays_status CHECK (status IN ('planned', 'running', 'done', 'cancelled')), 
    CONSTRAINT webhook_replays_due CHECK ((due_at IS NOT NULL) = (status = 'running'))
);

COMMENT ON COLUMN webhook_replays.reason IS 'in the words of who confirmed it';

CREATE INDEX webhook_replays_claimable ON webhook_replays (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE webhook_replay_items (
    replay_id UUID NOT NULL, 
    event_id UUID NOT NULL, 
    event_status TEXT NOT NULL, 
    ended_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    state TEXT DEFAULT 'waiting' NOT NULL, 
    PRIMARY KEY (replay_id, event_id), 
    CONSTRAINT webhook_replay_items_state CHECK (state IN ('waiting', 'replayed', 'skipped')), 
    FOREIGN KEY(replay_id) REFERENCES webhook_replays (id) ON DELETE CASCADE
);

CREATE TABLE reconciliation_passes (
    id UUID NOT NULL, 
    name TEXT NOT NULL, 
    seen_until TIMESTAMP WITH TIME ZONE, 
    reading_until TIMESTAMP WITH TIME ZONE, 
    cursor TEXT, 
    looked BIGINT DEFAULT '0' NOT NULL, 
    found BIGINT DEFAULT '0' NOT NULL, 
    finished_at TIMESTAMP WITH TIME ZONE, 
    last_error TEXT, 
    due_at TIMESTAMP WITH TIME ZONE, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_epoch INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT reconciliation_passes_name UNIQUE (name), 
    CONSTRAINT reconciliation_passes_known CHECK (name IN ('events', 'intents'))
);

COMMENT ON COLUMN reconciliation_passes.cursor IS 'Stripe''s id of the last object read in this window';

COMMENT ON COLUMN reconciliation_passes.looked IS 'objects compared since the first day';

COMMENT ON COLUMN reconciliation_passes.found IS 'of them, how many we did not know';

COMMENT ON COLUMN reconciliation_passes.due_at IS 'null: nothing left to do';

CREATE TABLE reconciliation_findings (
    id UUID NOT NULL, 
    stripe_id TEXT NOT NULL, 
    kind TEXT NOT NULL, 
    payment_id UUID, 
    amount BIGINT NOT NULL, 
    currency TEXT NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT reconciliation_findings_once UNIQUE (stripe_id, kind), 
    CONSTRAINT reconciliation_findings_kind CHECK (kind IN ('adopted', 'orphan_canceled', 'orphan_captured'))
);

COMMENT ON COLUMN reconciliation_findings.payment_id IS 'as the object''s metadata names it';

CREATE INDEX payments_unsettled ON payments (coalesce(refreshed_at, created_at)) WHERE status IN ('authorized', 'processing', 'refund_pending', 'requires_action', 'requires_payment');

CREATE TABLE ledger_entries (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY, 
    transaction_id UUID NOT NULL, 
    payment_id UUID NOT NULL, 
    posting TEXT NOT NULL, 
    cause TEXT NOT NULL, 
    account TEXT NOT NULL, 
    amount BIGINT NOT NULL, 
    currency TEXT NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT ledger_entries_posting CHECK (posting IN ('authorized', 'voided', 'captured', 'refund_requested', 'refund_settled', 'refund_failed', 'refund_reversed', 'dispute_opened', 'dispute_won', 'dispute_lost')), 
    CONSTRAINT ledger_entries_account CHECK (account IN ('guest', 'reserved', 'balance', 'refunding', 'disputed')), 
    CONSTRAINT ledger_entries_amount CHECK (amount <> 0), 
    CONSTRAINT ledger_entries_once UNIQUE (transaction_id, account), 
    FOREIGN KEY(payment_id) REFERENCES payments (id)
);

COMMENT ON COLUMN ledger_entries.transaction_id IS 'made of payment, posting and cause';

COMMENT ON COLUMN ledger_entries.cause IS 'the refund or dispute that it is about; else empty';

COMMENT ON COLUMN ledger_entries.amount IS 'minor units; plus is into the account';

CREATE INDEX ledger_entries_by_payment ON ledger_entries (payment_id, id);

CREATE TABLE disputes (
    id UUID NOT NULL, 
    payment_id UUID NOT NULL, 
    stripe_dispute_id TEXT NOT NULL, 
    amount BIGINT NOT NULL, 
    status TEXT NOT NULL, 
    reason TEXT NOT NULL, 
    question BIGINT DEFAULT '0' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT disputes_status CHECK (status IN ('inquiry', 'inquiry_closed', 'open', 'won', 'lost')), 
    CONSTRAINT disputes_amount CHECK (amount > 0), 
    CONSTRAINT disputes_stripe_dispute UNIQUE (stripe_dispute_id), 
    FOREIGN KEY(payment_id) REFERENCES payments (id)
);

COMMENT ON COLUMN disputes.id IS 'made of the payment''s id and Stripe''s';

CREATE INDEX disputes_by_payment ON disputes (payment_id, created_at);

ALTER TABLE payments ADD COLUMN posted_version INTEGER DEFAULT '0' NOT NULL;

COMMENT ON COLUMN payments.posted_version IS 'up to here the ledger knows it';

CREATE INDEX payments_unposted ON payments (id) WHERE posted_version < version;

CREATE OR REPLACE FUNCTION holdfast_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE FUNCTION holdfast_ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM entries GROUP BY transaction_id HAVING sum(amount) <> 0 OR min(currency) <> max(currency)) THEN
        RAISE EXCEPTION 'a ledger transaction must sum to zero' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
       REFERENCING NEW TABLE AS entries FOR EACH STATEMENT EXECUTE FUNCTION holdfast_ledger_balances();

CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TRIGGER reconciliation_findings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciliation_findings
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TRIGGER outbox_append_only
       BEFORE UPDATE OF payment_id, version, status, event, created_at OR DELETE OR TRUNCATE ON outbox
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TRIGGER payment_calls_append_only
       BEFORE UPDATE OF payment_id, step, key_number OR DELETE OR TRUNCATE ON payment_calls
       FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0005');
