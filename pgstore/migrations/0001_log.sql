-- @ stands for the schema.

-- One row: what is true of the whole log.
CREATE TABLE @settings (
    single            boolean PRIMARY KEY DEFAULT true CHECK (single),
    schema_version    int NOT NULL,
    origin            text NOT NULL,
    max_event_bytes   int NOT NULL,
    epoch             int NOT NULL,    -- counts restores and failovers
    xid_epoch         int NOT NULL,    -- the epoch whose transaction ids events are written with now
    system_identifier bigint NOT NULL, -- of the cluster whose transaction ids these are
    timeline          text NOT NULL
);

-- refuse ends the transaction with an error that the library knows by its code.
CREATE FUNCTION @refuse(code text, message text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
END
$$;

-- Each statement that inserts events draws one number, and its events get ids counting from it: they stand next to each other, however
-- many others insert at the same time. Not cached: who draws later gets more.
CREATE SEQUENCE @event_units AS bigint INCREMENT BY 4096 CACHE 1;

-- The log. xid is the transaction that wrote the row, by which it is found once that has committed; see the table ticks.
-- Of a purged part content and salt are NULL, and purged_by names the event that recorded it.
CREATE TABLE @events (
    id             bigint PRIMARY KEY,
    xid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    event_id       uuid NOT NULL,
    actor_id       uuid,
    causation_id   uuid,
    epoch          int NOT NULL DEFAULT 1,
    version        int NOT NULL,
    format         smallint NOT NULL,
    name           text COLLATE "C" NOT NULL,
    source         text COLLATE "C" NOT NULL,
    correlation_id text COLLATE "C",
    key            text COLLATE "C",
    trace          text COLLATE "C",
    fact_salt      bytea,
    link_salt      bytea,
    digests        bytea NOT NULL,
    commitment     bytea NOT NULL,
    purged_by      uuid,
    extensions     json,
    data           json,
    sealed         bytea
);
CREATE UNIQUE INDEX events_event_id ON @events (event_id);
CREATE INDEX events_epoch_xid ON @events (epoch, xid);

-- New events should be known to the planner soon, however long the log is; nothing is ever updated, so this costs little.
ALTER TABLE @events SET (autovacuum_analyze_scale_factor = 0.02);

CREATE FUNCTION @events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never deleted: a purge empties parts of them';
END
$$;
CREATE TRIGGER events_stay BEFORE DELETE OR TRUNCATE ON @events FOR EACH STATEMENT EXECUTE FUNCTION @events_stay();

CREATE FUNCTION @events_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events never change: a purge may only take away whole parts of them';
END
$$;
CREATE TRIGGER events_frozen BEFORE UPDATE ON @events FOR EACH ROW WHEN (NOT (
    NEW.purged_by IS NOT NULL
    AND (NEW.id, NEW.xid, NEW.epoch, NEW.event_id, NEW.name, NEW.version, NEW.source, NEW.occurred_at, NEW.recorded_at)
     IS NOT DISTINCT FROM (OLD.id, OLD.xid, OLD.epoch, OLD.event_id, OLD.name, OLD.version, OLD.source, OLD.occurred_at, OLD.recorded_at)
    AND (NEW.digests, NEW.commitment, NEW.format) IS NOT DISTINCT FROM (OLD.digests, OLD.commitment, OLD.format)
    AND (NEW.sealed IS NULL OR NEW.sealed IS NOT DISTINCT FROM OLD.sealed)
    AND (NEW.extensions IS NULL OR NEW.extensions::text IS NOT DISTINCT FROM OLD.extensions::text)
    AND ((NEW.fact_salt, NEW.data::text) IS NOT DISTINCT FROM (OLD.fact_salt, OLD.data::text)
      OR NEW.fact_salt IS NULL AND NEW.data IS NULL)
    AND ((NEW.link_salt, NEW.actor_id, NEW.key, NEW.correlation_id, NEW.causation_id, NEW.trace)
      IS NOT DISTINCT FROM (OLD.link_salt, OLD.actor_id, OLD.key, OLD.correlation_id, OLD.causation_id, OLD.trace)
      OR num_nonnulls(NEW.link_salt, NEW.actor_id, NEW.key, NEW.correlation_id, NEW.causation_id, NEW.trace) = 0)
)) EXECUTE FUNCTION @events_frozen();

-- The place of each event in the log, given once it is visible to everybody. Written by the sequencer only.
CREATE TABLE @positions (
    position bigint PRIMARY KEY,
    event    bigint NOT NULL UNIQUE
);

-- What the sequencer has done: the events of the transactions that snapshot n sees have positions up to head. The next tick is about
-- the difference between this snapshot and its own.
CREATE TABLE @ticks (
    n    bigint PRIMARY KEY,
    head bigint NOT NULL,
    snap pg_snapshot NOT NULL
);
INSERT INTO @ticks (n, head, snap) VALUES (0, 0, pg_current_snapshot());

-- Where in the log to find a key (field 1), an actor (2) or a correlation (3). Filled behind the log, up to
-- the progress of kind "index" named "lookup"; rebuilt by emptying it and taking that progress away.
CREATE TABLE @lookup (
    field    smallint NOT NULL,
    position bigint NOT NULL,
    value    text COLLATE "C" NOT NULL,
    PRIMARY KEY (field, value, position)
);

-- How far readers of the log have come; the row with the greatest n counts. Rows are added and taken away, not changed: a row changed
-- many times a second keeps all its versions while any old snapshot is open, and reading it walks through them.
CREATE TABLE @progress (
    kind       text COLLATE "C" NOT NULL, -- "subscription" or "index"
    name       text COLLATE "C" NOT NULL,
    n          bigint GENERATED ALWAYS AS IDENTITY,
    position   bigint NOT NULL,
    epoch      int NOT NULL,
    commitment bytea, -- of the event at position; NULL when not known
    PRIMARY KEY (kind, name, n)
);

CREATE TABLE @subscriptions (
    name         text COLLATE "C" PRIMARY KEY,
    source       text NOT NULL, -- the destination whose broker feeds it, '' for the log
    generation   int NOT NULL,
    revision     bigint NOT NULL,
    paused_until timestamptz, -- NULL when not paused
    pause_reason text NOT NULL DEFAULT ''
);

-- Who changes holder, token or generation locks the row FOR UPDATE; who depends on them locks it FOR KEY SHARE; renewing is in nobody's way.
CREATE TABLE @leases (
    subscription text COLLATE "C" PRIMARY KEY,
    holder       text NOT NULL,
    token        bigint NOT NULL,
    generation   int NOT NULL,
    unclean      boolean NOT NULL, -- the holder before this one did not release
    held         boolean NOT NULL, -- false once released
    expires_at   timestamptz NOT NULL
);
CREATE SEQUENCE @lease_tokens AS bigint CACHE 1;

CREATE TABLE @inbox (
    subscription text COLLATE "C" NOT NULL,
    generation   int NOT NULL,
    position     bigint NOT NULL,
    PRIMARY KEY (subscription, generation, position)
);

CREATE TABLE @deliveries (
    subscription text COLLATE "C" NOT NULL,
    position     bigint NOT NULL,
    attempt      int NOT NULL,
    due_at       timestamptz,
    failed_at    timestamptz,
    status       text COLLATE "C" NOT NULL,
    lane         text COLLATE "C" NOT NULL, -- '' when it holds up nobody
    name         text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    error        text NOT NULL,
    stack        text NOT NULL,
    PRIMARY KEY (subscription, position)
);
CREATE INDEX deliveries_status ON @deliveries (subscription, status);
CREATE INDEX deliveries_lane ON @deliveries (subscription, lane, position) WHERE lane <> '';
