-- Projects, runners, runs, samples and the event log.
-- Times are ISO 8601 UTC text with milliseconds; order is by seq, never by time.

CREATE TABLE installation (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         TEXT    NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    began_at   TEXT    NOT NULL,
    boot_id    TEXT
) STRICT;

CREATE TABLE projects (
    id               INTEGER PRIMARY KEY,
    name             TEXT    NOT NULL UNIQUE,
    path             TEXT    NOT NULL,
    agent            TEXT,
    description      TEXT    NOT NULL DEFAULT '',
    tags             TEXT    NOT NULL DEFAULT '[]',
    max_runners      INTEGER NOT NULL,
    max_memory_bytes INTEGER,
    max_cpu_percent  REAL,
    on_quota         TEXT    NOT NULL CHECK (on_quota IN ('warn', 'pause', 'stop')),
    -- Slots taken. No CHECK against max_runners: adoption and a lowered limit overshoot and must be booked.
    live_runners     INTEGER NOT NULL DEFAULT 0 CHECK (live_runners >= 0),
    launches         INTEGER NOT NULL DEFAULT 0,
    created_at       TEXT    NOT NULL,
    archived_at      TEXT
) STRICT;

CREATE TABLE runners (
    id                  TEXT    PRIMARY KEY,
    name                TEXT    NOT NULL,
    project_id          INTEGER NOT NULL REFERENCES projects (id),
    agent               TEXT    NOT NULL,
    desired             TEXT    NOT NULL CHECK (desired IN ('running', 'paused', 'stopped')),
    restart_policy      TEXT    NOT NULL CHECK (restart_policy IN ('never', 'on-failure', 'always')),
    max_restarts        INTEGER NOT NULL,
    restarts            INTEGER NOT NULL DEFAULT 0,
    -- Failures in a row since the last healthy stretch: the step of the backoff and the count of the breaker.
    failures            INTEGER NOT NULL DEFAULT 0,
    tty                 INTEGER NOT NULL,
    terminal_rows       INTEGER NOT NULL,
    terminal_columns    INTEGER NOT NULL,
    extra_argv          TEXT    NOT NULL,
    cwd                 TEXT    NOT NULL,
    umask               INTEGER,
    prompt              TEXT,
    session_id          TEXT,
    stop_grace_seconds  REAL    NOT NULL,
    max_seconds         REAL,
    -- 1 while it holds a slot of its project's quota: from the launch until nothing will start it again.
    alive               INTEGER NOT NULL CHECK (alive IN (0, 1)),
    -- A person asked for a restart: start a new run as soon as the present one has ended.
    then_start          INTEGER NOT NULL DEFAULT 0,
    -- Backoff: the wall time is for people, the boot clock decides.
    retry_at            TEXT,
    retry_at_boottime   REAL,
    retry_boot_id       TEXT,
    run                 INTEGER NOT NULL,
    created_at          TEXT    NOT NULL,
    CHECK ((retry_at IS NULL) = (retry_at_boottime IS NULL)),
    CHECK (retry_at IS NULL OR alive = 1)
) STRICT;

CREATE UNIQUE INDEX runners_living_name ON runners (name) WHERE alive = 1;
CREATE INDEX runners_name ON runners (name);
CREATE INDEX runners_project ON runners (project_id);
CREATE INDEX runners_alive ON runners (alive) WHERE alive = 1;

CREATE TABLE runs (
    key                TEXT    PRIMARY KEY,
    runner_id          TEXT    NOT NULL REFERENCES runners (id) ON DELETE CASCADE,
    number             INTEGER NOT NULL,
    shim               TEXT    NOT NULL,
    state              TEXT    NOT NULL CHECK (state IN ('starting', 'running', 'paused', 'stopping',
                                                         'terminated', 'failed', 'lost')),
    argv               TEXT    NOT NULL DEFAULT '[]',
    pid                INTEGER,
    start_time         INTEGER,
    boot_id            TEXT,
    created_at         TEXT    NOT NULL,
    started_at         TEXT,
    ended_at           TEXT,
    exit_code          INTEGER,
    exit_signal        INTEGER,
    end_reason         TEXT,
    end_detail         TEXT,
    ended_by           TEXT,
    stop_reason        TEXT,
    stop_by            TEXT,
    stop_grace_seconds REAL,
    output_bytes       INTEGER,
    dropped_bytes      INTEGER,
    last_line          TEXT,
    cpu_seconds        REAL,
    max_rss_bytes      INTEGER,
    UNIQUE (runner_id, number),
    CHECK ((state IN ('terminated', 'failed', 'lost')) = (ended_at IS NOT NULL)),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK (exit_code IS NULL OR exit_signal IS NULL)
) STRICT;

CREATE INDEX runs_unended ON runs (shim) WHERE ended_at IS NULL;

-- The newest sample of each living runner: measured, not decided, so it is no event.
CREATE TABLE samples (
    runner_id    TEXT PRIMARY KEY REFERENCES runners (id) ON DELETE CASCADE,
    seen_at      TEXT NOT NULL,
    cpu_percent  REAL,
    rss_bytes    INTEGER,
    threads      INTEGER,
    children     INTEGER,
    output_bytes INTEGER,
    activity     TEXT,
    health       TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id       TEXT    NOT NULL UNIQUE,
    aggregate_type TEXT    NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    aggregate_seq  INTEGER NOT NULL,
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    payload        TEXT    NOT NULL CHECK (length(payload) <= 262144),
    at             TEXT    NOT NULL,
    actor          TEXT    NOT NULL,
    generation     INTEGER NOT NULL,
    previous_hash  TEXT    NOT NULL,
    hash           TEXT    NOT NULL
) STRICT;

CREATE INDEX events_aggregate ON events (aggregate_type, aggregate_id, aggregate_seq);

CREATE TRIGGER events_are_append_only BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- Numbers the events of each aggregate, also after older ones were pruned.
CREATE TABLE aggregates (
    type TEXT    NOT NULL,
    id   TEXT    NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (type, id)
) STRICT, WITHOUT ROWID;

-- What pruning took away: the chain goes on from the newest row here.
CREATE TABLE event_checkpoints (
    seq  INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    at   TEXT NOT NULL
) STRICT;

CREATE VIEW public_projects AS
SELECT p.id, p.name, p.path, p.agent, p.description, p.tags,
       CASE WHEN p.archived_at IS NOT NULL THEN 'archived' WHEN p.live_runners > 0 THEN 'active' ELSE 'idle' END AS status,
       p.live_runners AS runners, p.max_runners, p.max_memory_bytes, p.max_cpu_percent, p.on_quota,
       p.created_at, p.archived_at
  FROM projects AS p;

CREATE VIEW public_runners AS
SELECT r.id, r.name, p.name AS project, r.agent,
       CASE WHEN r.retry_at IS NOT NULL THEN 'backoff' ELSE n.state END AS state,
       CASE WHEN n.ended_at IS NULL THEN COALESCE(s.activity, 'unknown') ELSE 'unknown' END AS activity,
       CASE WHEN n.ended_at IS NULL THEN n.pid END AS pid,
       n.exit_code, n.exit_signal, n.end_reason, n.end_detail, r.restarts, r.max_restarts, r.desired,
       r.restart_policy, r.retry_at, n.argv, r.cwd, r.tty, r.created_at, n.started_at, n.ended_at,
       CASE WHEN n.ended_at IS NULL THEN s.cpu_percent END AS cpu_percent,
       CASE WHEN n.ended_at IS NULL THEN s.rss_bytes END AS rss_bytes,
       CASE WHEN n.ended_at IS NULL THEN s.threads END AS threads,
       CASE WHEN n.ended_at IS NULL THEN s.children END AS children,
       s.seen_at,
       CASE WHEN n.ended_at IS NULL THEN COALESCE(s.health, 'unknown') ELSE 'ok' END AS health,
       r.session_id, r.run,
       CASE WHEN n.ended_at IS NULL AND r.run = 1 THEN s.output_bytes
            WHEN n.ended_at IS NULL THEN COALESCE(s.output_bytes, 0) + (SELECT COALESCE(SUM(o.output_bytes), 0)
                                                                          FROM runs AS o WHERE o.runner_id = r.id)
            WHEN r.run = 1 THEN n.output_bytes
            ELSE (SELECT SUM(o.output_bytes) FROM runs AS o WHERE o.runner_id = r.id) END AS output_bytes,
       CASE WHEN r.run = 1 THEN n.dropped_bytes
            ELSE (SELECT SUM(o.dropped_bytes) FROM runs AS o WHERE o.runner_id = r.id) END AS dropped_bytes,
       n.last_line, r.alive, r.project_id
  FROM runners AS r
  JOIN projects AS p ON p.id = r.project_id
  JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run
  LEFT JOIN samples AS s ON s.runner_id = r.id;
