CREATE TABLE experiences (
    id UUID NOT NULL, 
    title TEXT NOT NULL, 
    description TEXT DEFAULT '' NOT NULL, 
    time_zone TEXT NOT NULL, 
    currency TEXT NOT NULL, 
    hold_ttl_seconds INTEGER, 
    max_party INTEGER NOT NULL, 
    cutoff_minutes INTEGER DEFAULT '0' NOT NULL, 
    capture_method TEXT DEFAULT 'manual' NOT NULL, 
    late_payment_policy TEXT DEFAULT 'rebook_or_refund' NOT NULL, 
    cancellation_policy JSONB NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id)
);

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

CREATE TABLE payment_signals (
    payment_id UUID NOT NULL, 
    version INTEGER NOT NULL, 
    reservation_id UUID NOT NULL, 
    generation INTEGER NOT NULL, 
    body JSONB NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (payment_id, version)
);

CREATE TABLE ticket_types (
    id UUID NOT NULL, 
    experience_id UUID NOT NULL, 
    code TEXT NOT NULL, 
    title TEXT NOT NULL, 
    price_minor BIGINT NOT NULL, 
    seats INTEGER NOT NULL, 
    position INTEGER NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT ticket_types_price CHECK (price_minor >= 0), 
    CONSTRAINT ticket_types_seats CHECK (seats >= 0), 
    FOREIGN KEY(experience_id) REFERENCES experiences (id), 
    CONSTRAINT ticket_types_code UNIQUE (experience_id, code)
);

CREATE TABLE time_slots (
    id UUID NOT NULL, 
    experience_id UUID NOT NULL, 
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    ends_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    sells_until TIMESTAMP WITH TIME ZONE NOT NULL, 
    capacity INTEGER NOT NULL, 
    taken INTEGER DEFAULT '0' NOT NULL, 
    status TEXT DEFAULT 'open' NOT NULL, 
    version INTEGER DEFAULT '1' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT time_slots_status CHECK (status IN ('open', 'closed', 'cancelled')), 
    CONSTRAINT time_slots_never_oversold CHECK (0 <= taken AND taken <= capacity), 
    CONSTRAINT time_slots_times CHECK (starts_at < ends_at AND sells_until <= starts_at), 
    FOREIGN KEY(experience_id) REFERENCES experiences (id)
)
 WITH (fillfactor = 50);

COMMENT ON COLUMN time_slots.sells_until IS 'starts_at less the experience''s cutoff';

CREATE INDEX time_slots_by_day ON time_slots (experience_id, starts_at);

CREATE TABLE reservations (
    id UUID NOT NULL, 
    caller TEXT NOT NULL, 
    time_slot_id UUID NOT NULL, 
    status TEXT DEFAULT 'held' NOT NULL, 
    seats INTEGER NOT NULL, 
    seats_pinned BOOLEAN DEFAULT 'true' NOT NULL, 
    items JSONB NOT NULL, 
    price JSONB NOT NULL, 
    total_minor BIGINT NOT NULL, 
    currency TEXT NOT NULL, 
    capture_method TEXT NOT NULL, 
    client_reference TEXT, 
    metadata JSONB, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    created_expires_at TIMESTAMP WITH TIME ZONE NOT NULL, 
    extensions INTEGER DEFAULT '0' NOT NULL, 
    released_by TEXT, 
    supersedes UUID, 
    version INTEGER DEFAULT '1' NOT NULL, 
    reference TEXT, 
    customer JSONB, 
    payment_mode TEXT, 
    pay_until TIMESTAMP WITH TIME ZONE, 
    generation INTEGER DEFAULT '1' NOT NULL, 
    payment JSONB, 
    payment_version INTEGER DEFAULT '0' NOT NULL, 
    failure_reason TEXT, 
    cancel_requested_at TIMESTAMP WITH TIME ZONE, 
    confirmed_at TIMESTAMP WITH TIME ZONE, 
    PRIMARY KEY (id), 
    CONSTRAINT reservations_seats_pinned CHECK (status = 'needs_attention' OR seats_pinned = (status IN ('confirmed', 'held', 'pending'))), 
    CONSTRAINT reservations_status CHECK (status IN ('held', 'expired', 'released', 'pending', 'confirmed', 'failed', 'cancelled', 'needs_attention')), 
    CONSTRAINT reservations_amounts CHECK (seats >= 1 AND total_minor >= 0), 
    FOREIGN KEY(supersedes) REFERENCES reservations (id), 
    FOREIGN KEY(time_slot_id) REFERENCES time_slots (id), 
    CONSTRAINT reservations_reference UNIQUE (reference), 
    CONSTRAINT reservations_supersedes UNIQUE (supersedes)
);

COMMENT ON COLUMN reservations.caller IS 'the customer: `sub` of the token that made the hold';

COMMENT ON COLUMN reservations.seats_pinned IS 'counted in the slot''s `taken`';

COMMENT ON COLUMN reservations.price IS 'as it was when the hold was made';

COMMENT ON COLUMN reservations.created_expires_at IS 'never changes: replays show it';

COMMENT ON COLUMN reservations.generation IS 'which PaymentIntent of this booking';

COMMENT ON COLUMN reservations.payment IS 'what payment_service last told';

CREATE INDEX reservations_by_caller ON reservations (caller, id);

CREATE INDEX reservations_by_slot ON reservations (time_slot_id);

CREATE INDEX reservations_due ON reservations (expires_at) WHERE status = 'held';

CREATE INDEX reservations_held_by_caller ON reservations (caller, expires_at) WHERE status = 'held';

CREATE INDEX reservations_held_by_slot ON reservations (time_slot_id, expires_at) WHERE status = 'held';

CREATE TABLE idempotency (
    caller TEXT NOT NULL, 
    route TEXT NOT NULL, 
    key TEXT NOT NULL, 
    hold_id UUID NOT NULL, 
    fingerprint BYTEA NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (caller, route, key), 
    FOREIGN KEY(hold_id) REFERENCES reservations (id)
);

CREATE TABLE reservation_events (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY, 
    reservation_id UUID NOT NULL, 
    from_status TEXT NOT NULL, 
    to_status TEXT NOT NULL, 
    reason TEXT NOT NULL, 
    trace_id TEXT DEFAULT '' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    FOREIGN KEY(reservation_id) REFERENCES reservations (id)
);

CREATE INDEX reservation_events_by_reservation ON reservation_events (reservation_id, id);

CREATE TABLE sagas (
    id UUID NOT NULL, 
    reservation_id UUID NOT NULL, 
    status TEXT NOT NULL, 
    generation INTEGER NOT NULL, 
    flags JSONB NOT NULL, 
    unwinding_because TEXT, 
    reason TEXT, 
    trace_id TEXT DEFAULT '' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    due_at TIMESTAMP WITH TIME ZONE, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_epoch INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT sagas_status CHECK (status IN ('running', 'waiting', 'unwinding', 'completed', 'compensated', 'needs_attention')), 
    FOREIGN KEY(reservation_id) REFERENCES reservations (id)
);

COMMENT ON COLUMN sagas.flags IS 'as they were when it started';

COMMENT ON COLUMN sagas.unwinding_because IS 'deadline, refused or asked';

COMMENT ON COLUMN sagas.reason IS 'why it needs attention';

COMMENT ON COLUMN sagas.due_at IS 'null: nothing left to do';

CREATE INDEX sagas_by_reservation ON sagas (reservation_id);

CREATE INDEX sagas_due ON sagas (due_at) WHERE due_at IS NOT NULL;

CREATE UNIQUE INDEX sagas_one_live ON sagas (reservation_id) WHERE status IN ('running', 'unwinding', 'waiting');

CREATE TABLE saga_log (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY, 
    saga_id UUID NOT NULL, 
    step TEXT NOT NULL, 
    direction TEXT NOT NULL, 
    event TEXT NOT NULL, 
    detail JSONB, 
    epoch INTEGER NOT NULL, 
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT saga_log_direction CHECK (direction IN ('do', 'undo')), 
    FOREIGN KEY(saga_id) REFERENCES sagas (id)
);

CREATE INDEX saga_log_by_saga ON saga_log (saga_id, id);

CREATE INDEX sagas_needing_attention ON sagas (id) WHERE status = 'needs_attention';

CREATE TABLE discounts (
    id UUID NOT NULL, 
    experience_id UUID, 
    code TEXT NOT NULL, 
    basis_points INTEGER, 
    amount_minor BIGINT, 
    currency TEXT, 
    valid_from TIMESTAMP WITH TIME ZONE, 
    valid_until TIMESTAMP WITH TIME ZONE, 
    max_uses INTEGER, 
    max_uses_per_customer INTEGER, 
    limits_changed_at TIMESTAMP WITH TIME ZONE, 
    active BOOLEAN DEFAULT 'true' NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT discounts_code CHECK (code = upper(code)), 
    CONSTRAINT discounts_kind CHECK ((basis_points BETWEEN 1 AND 10000 AND amount_minor IS NULL AND currency IS NULL) OR (basis_points IS NULL AND amount_minor >= 1 AND currency IS NOT NULL)), 
    CONSTRAINT discounts_dates CHECK (valid_from < valid_until), 
    CONSTRAINT discounts_limits CHECK (max_uses >= 0 AND max_uses_per_customer >= 1), 
    FOREIGN KEY(experience_id) REFERENCES experiences (id)
);

COMMENT ON COLUMN discounts.experience_id IS 'null: for all experiences';

COMMENT ON COLUMN discounts.code IS 'in upper case, as guests'' codes are looked up';

COMMENT ON COLUMN discounts.basis_points IS 'hundredths of a percent; null: a fixed amount';

COMMENT ON COLUMN discounts.limits_changed_at IS 'null: as it was made';

CREATE UNIQUE INDEX discounts_by_experience ON discounts (code, experience_id) WHERE experience_id IS NOT NULL;

CREATE UNIQUE INDEX discounts_for_all ON discounts (code) WHERE experience_id IS NULL;

ALTER TABLE reservations ADD COLUMN discount_id UUID;

COMMENT ON COLUMN reservations.discount_id IS 'one use of it while the seats are pinned';

ALTER TABLE reservations ADD FOREIGN KEY(discount_id) REFERENCES discounts (id);

CREATE INDEX reservations_using_discount ON reservations (discount_id, caller) WHERE discount_id IS NOT NULL AND seats_pinned;

ALTER TABLE ticket_types ADD COLUMN active BOOLEAN DEFAULT 'true' NOT NULL;

COMMENT ON COLUMN ticket_types.active IS 'whether it is still sold';

CREATE TABLE slot_changes (
    id BIGINT GENERATED BY DEFAULT AS IDENTITY, 
    time_slot_id UUID NOT NULL, 
    changes JSONB NOT NULL, 
    changed_by TEXT NOT NULL, 
    reason TEXT NOT NULL, 
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    PRIMARY KEY (id), 
    FOREIGN KEY(time_slot_id) REFERENCES time_slots (id)
);

CREATE INDEX slot_changes_by_slot ON slot_changes (time_slot_id, id);

CREATE TABLE slot_cancellations (
    id UUID NOT NULL, 
    status TEXT DEFAULT 'running' NOT NULL, 
    held_released INTEGER DEFAULT '0' NOT NULL, 
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL, 
    finished_at TIMESTAMP WITH TIME ZONE, 
    due_at TIMESTAMP WITH TIME ZONE, 
    lease_until TIMESTAMP WITH TIME ZONE, 
    lease_epoch INTEGER DEFAULT '0' NOT NULL, 
    attempts INTEGER DEFAULT '0' NOT NULL, 
    PRIMARY KEY (id), 
    CONSTRAINT slot_cancellations_status CHECK (status IN ('running', 'awaiting_refund', 'finished')), 
    FOREIGN KEY(id) REFERENCES time_slots (id)
);

COMMENT ON COLUMN slot_cancellations.id IS 'the slot''s own id';

COMMENT ON COLUMN slot_cancellations.due_at IS 'null: nothing left to do';

CREATE INDEX slot_cancellations_due ON slot_cancellations (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX reservations_by_email ON reservations (lower(customer ->> 'email'), id) WHERE customer IS NOT NULL;

CREATE OR REPLACE FUNCTION holdfast_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is history: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER reservation_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reservation_events
                FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TRIGGER saga_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON saga_log
                FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TRIGGER slot_changes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON slot_changes
                FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TRIGGER payment_signals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_signals
                FOR EACH STATEMENT EXECUTE FUNCTION holdfast_refuse_change();

CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('0005');
