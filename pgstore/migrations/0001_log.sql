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

-- first_id is the id of the first event of a unit made for the log called log, the largest of so many bytes. It refuses connections whose texts,
-- which are UTF-8, the server takes for another encoding: it would store other characters. What a log keeps for good is in it as constants: the
-- planner writes the function into the statement that calls it, where reading the row of settings costs a tenth of an insert.
CREATE FUNCTION @settle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION @first_id(log text, largest int) RETURNS bigint LANGUAGE sql AS %L',
        format('SELECT CASE WHEN pg_client_encoding() NOT IN (''UTF8'', ''SQL_ASCII'') THEN @refuse(''PU005'', pg_client_encoding()::text)
            WHEN log <> %1$L THEN @refuse(''PU002'', %1$L)
            WHEN largest > %2$s THEN @refuse(''PU003'', ''%2$s'')
            ELSE nextval(''@event_units'') END', NEW.origin, NEW.max_event_bytes));
    RETURN NULL;
END
$$;
CREATE TRIGGER settled AFTER INSERT OR UPDATE OF origin, max_event_bytes ON @settings FOR EACH ROW EXECUTE FUNCTION @settle();
ALTER TABLE @settings ENABLE ALWAYS TRIGGER settled; -- also where the row arrives by replication

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

-- What is known of an event before it is stored. Units of them come as one array: each array of a column that a statement would unnest beside
-- others costs the server as much as three columns more in the table.
CREATE TYPE @new_event AS (
    event_id uuid, occurred_at timestamptz, actor_id uuid, causation_id uuid, version int, format smallint, name text, source text,
    correlation_id text, key text, trace text, fact_salt bytea, link_salt bytea, digests bytea, commitment bytea, extensions json,
    data json
);

-- append_one and append_all store events as one unit and return how many. log is the name of the log they were made for, largest the size of
-- the largest. With repeats, events whose ids are stored already are left out, otherwise they are an error. wait, in milliseconds, is how long
-- another transaction that is storing one of the ids is waited for; it is given by who commits at once, and durably. Functions keep their
-- plans, which take the server longer to make than to carry out.
CREATE FUNCTION @append_one(event @new_event, log text, largest int, wait text, repeats boolean) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    first bigint := @first_id(log, largest);
    stored bigint;
BEGIN
    IF wait IS NOT NULL THEN
        PERFORM set_config('lock_timeout', wait, true);
        IF current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
    END IF;
    IF repeats THEN
        INSERT INTO @events (id,
            event_id, occurred_at, actor_id, causation_id, version, format, name, source, correlation_id, key, trace, fact_salt, link_salt,
            digests, commitment, extensions, data)
        VALUES (first,
            event.event_id, event.occurred_at, event.actor_id, event.causation_id, event.version, event.format, event.name, event.source,
            event.correlation_id, event.key, event.trace, event.fact_salt, event.link_salt, event.digests, event.commitment, event.extensions,
            event.data)
        ON CONFLICT (event_id) DO NOTHING;
    ELSE
        INSERT INTO @events (id,
            event_id, occurred_at, actor_id, causation_id, version, format, name, source, correlation_id, key, trace, fact_salt, link_salt,
            digests, commitment, extensions, data)
        VALUES (first,
            event.event_id, event.occurred_at, event.actor_id, event.causation_id, event.version, event.format, event.name, event.source,
            event.correlation_id, event.key, event.trace, event.fact_salt, event.link_salt, event.digests, event.commitment, event.extensions,
            event.data);
    END IF;
    GET DIAGNOSTICS stored = ROW_COUNT;
    RETURN stored;
END
$$;

CREATE FUNCTION @append_all(unit @new_event[], log text, largest int, wait text, repeats boolean) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    first bigint := @first_id(log, largest);
    stored bigint;
BEGIN
    IF wait IS NOT NULL THEN
        PERFORM set_config('lock_timeout', wait, true);
        IF current_setting('synchronous_commit') IN ('off', 'local') THEN
            PERFORM set_config('synchronous_commit', 'on', true);
        END IF;
    END IF;
    IF repeats THEN
        INSERT INTO @events (id,
            event_id, occurred_at, actor_id, causation_id, version, format, name, source, correlation_id, key, trace, fact_salt, link_salt,
            digests, commitment, extensions, data)
        SELECT first + u.ordinality - 1,
            u.event_id, u.occurred_at, u.actor_id, u.causation_id, u.version, u.format, u.name, u.source, u.correlation_id, u.key, u.trace,
            u.fact_salt, u.link_salt, u.digests, u.commitment, u.extensions, u.data
        FROM unnest(unit) WITH ORDINALITY AS u
        ON CONFLICT (event_id) DO NOTHING;
    ELSE
        INSERT INTO @events (id,
            event_id, occurred_at, actor_id, causation_id, version, format, name, source, correlation_id, key, trace, fact_salt, link_salt,
            digests, commitment, extensions, data)
        SELECT first + u.ordinality - 1,
            u.event_id, u.occurred_at, u.actor_id, u.causation_id, u.version, u.format, u.name, u.source, u.correlation_id, u.key, u.trace,
            u.fact_salt, u.link_salt, u.digests, u.commitment, u.extensions, u.data
        FROM unnest(unit) WITH ORDINALITY AS u;
    END IF;
    GET DIAGNOSTICS stored = ROW_COUNT;
    RETURN stored;
END
$$;

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

-- tick gives positions to the events that became visible since the last tick, whose snapshot the caller knows: its number and the epoch of
-- the transaction ids, and of the snapshot xmax and the transactions in progress. An event became visible if its transaction
-- had not begun at the last tick (xid >= xmax) or was in progress then (xid in xips); two conditions, each by a range of the index.
--
-- All of it is one statement with one snapshot, which is what the next tick begins from. The row in ticks is inserted first, so that of two
-- sequencers one inserts nothing. When the caller's tick is not the last one, or the cluster or its timeline is another, nothing happens. The number
-- alone does not tell: a standby that lacked the last ticks when it was promoted gives their numbers again.
--
-- It tells which events those are, unless they are more than most: the commitment of each, 32 bytes, and recorded_at, in the binary format.
--
-- It is a function for the sake of its plan: made once for each connection of the server, also behind a pooler, and kept from the mistakes that
-- statistics older than the newest events lead to. The positions are durable before anybody sees them.
CREATE FUNCTION @tick(
    known bigint, known_epoch int, xmax xid8, xips xid8[], most int,
    OUT epoch int, OUT xid_epoch int, OUT same_cluster boolean, OUT same_timeline boolean,
    OUT due boolean, OUT fresh boolean, OUT ticked boolean, OUT n bigint, OUT head bigint, OUT snap pg_snapshot, OUT placed bytea
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    WITH place AS MATERIALIZED (
        SELECT s.epoch, s.xid_epoch, s.system_identifier = c.system_identifier AS same_cluster,
            s.timeline = substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS same_timeline
        FROM @settings s, pg_control_system() c
    ), last AS MATERIALIZED (
        SELECT n, head, snap FROM @ticks ORDER BY n DESC LIMIT 1
    ), due AS MATERIALIZED (
        SELECT last.n, last.head FROM last, place
        WHERE last.n = known AND pg_snapshot_xmax(last.snap) = tick.xmax AND ARRAY(SELECT pg_snapshot_xip(last.snap)) = xips
            AND place.xid_epoch = known_epoch AND same_cluster AND same_timeline
    ), fresh AS MATERIALIZED (
        SELECT e.id, e.commitment, e.recorded_at FROM @events e WHERE e.epoch = known_epoch AND e.xid >= tick.xmax AND EXISTS (SELECT FROM due)
        UNION ALL
        SELECT e.id, e.commitment, e.recorded_at FROM unnest(xips) open (xid),
            LATERAL (SELECT e.* FROM @events e WHERE e.epoch = known_epoch AND e.xid = open.xid OFFSET 0) e WHERE EXISTS (SELECT FROM due)
    ), counted AS MATERIALIZED (
        SELECT count(*) AS events FROM fresh
    ), ticked AS (
        INSERT INTO @ticks (n, head, snap)
        SELECT due.n + 1, due.head + c.events, pg_current_snapshot() FROM due, counted c WHERE c.events > 0
        ON CONFLICT (n) DO NOTHING RETURNING n, head, snap
    ), placed AS (
        INSERT INTO @positions (position, event)
        SELECT due.head + row_number() OVER (ORDER BY f.id), f.id FROM due, fresh f WHERE EXISTS (SELECT FROM ticked)
    )
    SELECT p.epoch, p.xid_epoch, p.same_cluster, p.same_timeline, EXISTS (SELECT FROM due), EXISTS (SELECT FROM fresh), EXISTS (SELECT FROM ticked),
        coalesce(t.n, l.n), coalesce(t.head, l.head), coalesce(t.snap, l.snap),
        (SELECT string_agg(f.commitment || timestamptz_send(f.recorded_at), '' ORDER BY f.id) FROM fresh f, counted c WHERE c.events <= most)
    INTO epoch, xid_epoch, same_cluster, same_timeline, due, fresh, ticked, n, head, snap, placed
    FROM place p, last l LEFT JOIN ticked t ON true;
END
$$;

-- near returns the few events of a range of positions; a function for the sake of its plan, which may be older than most of the log.
CREATE FUNCTION @near(after bigint, through bigint) RETURNS TABLE (
    "position" bigint, event_id uuid, name text, version int, source text, occurred_at timestamptz, recorded_at timestamptz, actor_id uuid,
    correlation_id text, causation_id uuid, key text, trace text, commitment bytea, extensions json, data json
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT p.position, e.event_id, e.name, e.version, e.source, e.occurred_at, e.recorded_at, e.actor_id,
        e.correlation_id, e.causation_id, e.key, e.trace, e.commitment, e.extensions, e.data
    FROM @positions p JOIN @events e ON e.id = p.event
    WHERE p.position > near.after AND p.position <= near.through AND (e.fact_salt IS NOT NULL OR e.link_salt IS NOT NULL)
    ORDER BY p.position;
END
$$;

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
