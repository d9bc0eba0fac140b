-- Times are microseconds since 1970-01-01 UTC. Identifiers of events and people are the 16 bytes of a UUID.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- The log. Without AUTOINCREMENT a position that was not committed is given again: positions have no gaps.
-- Long columns come last, so that reading the others does not walk through them.
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    epoch          INTEGER NOT NULL,
    event_id       BLOB NOT NULL CHECK (length(event_id) = 16),
    name           TEXT NOT NULL,
    version        INTEGER NOT NULL,
    source         TEXT NOT NULL,
    occurred_at    INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    actor_id       BLOB,
    correlation_id TEXT,
    causation_id   BLOB,
    key            TEXT,
    trace          TEXT,
    fact_salt      BLOB, -- NULL once the fact part was purged
    link_salt      BLOB, -- NULL once the link part was purged
    digests        BLOB NOT NULL,
    commitment     BLOB NOT NULL,
    format         INTEGER NOT NULL,
    purged_by      BLOB, -- id of the event that recorded the purge
    extensions     TEXT,
    sealed         BLOB,
    data           TEXT
) STRICT;

CREATE UNIQUE INDEX events_event_id ON events (event_id);

CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are never deleted: a purge empties parts of them');
END;

-- Nothing of an event changes, except that a purge takes away whole parts of it and says which event recorded that.
CREATE TRIGGER events_frozen BEFORE UPDATE ON events
WHEN NOT (
    NEW.purged_by IS NOT NULL
    AND (NEW.position, NEW.epoch, NEW.event_id, NEW.name, NEW.version, NEW.source, NEW.occurred_at, NEW.recorded_at)
     IS (OLD.position, OLD.epoch, OLD.event_id, OLD.name, OLD.version, OLD.source, OLD.occurred_at, OLD.recorded_at)
    AND (NEW.digests, NEW.commitment, NEW.format) IS (OLD.digests, OLD.commitment, OLD.format)
    AND (NEW.sealed IS NULL OR NEW.sealed IS OLD.sealed)
    AND (NEW.extensions IS NULL OR NEW.extensions IS OLD.extensions)
    AND ((NEW.fact_salt, NEW.data) IS (OLD.fact_salt, OLD.data)
      OR (NEW.fact_salt, NEW.data) IS (NULL, NULL))
    AND ((NEW.link_salt, NEW.actor_id, NEW.key, NEW.correlation_id, NEW.causation_id, NEW.trace)
      IS (OLD.link_salt, OLD.actor_id, OLD.key, OLD.correlation_id, OLD.causation_id, OLD.trace)
      OR (NEW.link_salt, NEW.actor_id, NEW.key, NEW.correlation_id, NEW.causation_id, NEW.trace)
      IS (NULL, NULL, NULL, NULL, NULL, NULL))
)
BEGIN
    SELECT RAISE(ABORT, 'events never change: a purge may only take away whole parts of them');
END;

-- Where in the log to find a key (field 1), an actor (2) or a correlation (3). Filled behind the log, up to
-- the progress named "lookup"; rebuilt by emptying it and taking that progress away.
CREATE TABLE lookup (
    field    INTEGER NOT NULL,
    value    ANY NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (field, value, position)
) STRICT, WITHOUT ROWID;

-- How far readers of the log have come. kind is "subscription" or "index".
CREATE TABLE progress (
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    commitment BLOB, -- of the event at position; NULL when not known
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscriptions (
    name         TEXT PRIMARY KEY,
    source       TEXT NOT NULL, -- the destination whose broker feeds it, '' for the log
    generation   INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    paused_until INTEGER, -- NULL when not paused
    pause_reason TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    subscription TEXT PRIMARY KEY,
    holder       TEXT NOT NULL,
    token        INTEGER NOT NULL,
    generation   INTEGER NOT NULL,
    unclean      INTEGER NOT NULL, -- 1 when the holder before this one did not release
    held         INTEGER NOT NULL, -- 0 once released
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    subscription TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    PRIMARY KEY (subscription, generation, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    subscription TEXT NOT NULL,
    position     INTEGER NOT NULL,
    status       TEXT NOT NULL,
    lane         TEXT NOT NULL, -- '' when it holds up nobody
    attempt      INTEGER NOT NULL,
    due_at       INTEGER,
    failed_at    INTEGER,
    name         TEXT NOT NULL,
    key          TEXT NOT NULL,
    error        TEXT NOT NULL,
    stack        TEXT NOT NULL,
    PRIMARY KEY (subscription, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_status ON deliveries (subscription, status);
CREATE INDEX deliveries_lane ON deliveries (subscription, lane, position) WHERE lane <> '';
