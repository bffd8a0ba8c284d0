-- Conversations, what they cost, what they may cost, and who is asked for permission.
-- Money is in billionths of a US dollar: a token of the cheapest class is a whole number of them.

DROP VIEW public_runners;

-- A new word for an old column: SQLite changes no CHECK in place.
ALTER TABLE runners ADD COLUMN restarts_when TEXT NOT NULL DEFAULT 'never'
    CHECK (restarts_when IN ('never', 'on-failure', 'always', 'on-limit-reset'));
UPDATE runners SET restarts_when = restart_policy;
ALTER TABLE runners DROP COLUMN restart_policy;
ALTER TABLE runners RENAME COLUMN restarts_when TO restart_policy;

-- What this very launch was allowed to spend on top of all budgets: turns of the agent.
ALTER TABLE runners ADD COLUMN max_turns INTEGER;
ALTER TABLE runners ADD COLUMN on_exceeded TEXT NOT NULL DEFAULT 'block' CHECK (on_exceeded IN ('warn', 'block', 'stop'));
ALTER TABLE runners ADD COLUMN allow_unpriced INTEGER NOT NULL DEFAULT 0;
-- The first prompt was taken by the agent: no restart gives it again.
ALTER TABLE runners ADD COLUMN prompt_taken INTEGER NOT NULL DEFAULT 0;
-- How far the lines of its hooks were read.
ALTER TABLE runners ADD COLUMN spool_offset INTEGER NOT NULL DEFAULT 0;

-- The conversation that its own begins as a copy of.
ALTER TABLE runners ADD COLUMN fork_of TEXT;
-- Why it is not known in which conversation it is.
ALTER TABLE runners ADD COLUMN session_detail TEXT;

ALTER TABLE samples ADD COLUMN activity_since TEXT;
ALTER TABLE samples ADD COLUMN activity_source TEXT;
ALTER TABLE samples ADD COLUMN waiting_for TEXT;
ALTER TABLE samples ADD COLUMN limit_resets_at TEXT;

CREATE TABLE sessions (
    number           INTEGER PRIMARY KEY,
    agent            TEXT    NOT NULL,  -- the kind of CLI, not a profile of it
    id               TEXT    NOT NULL,
    home             TEXT    NOT NULL,  -- the account directory
    project_id       INTEGER REFERENCES projects (id) ON DELETE SET NULL,
    cwd              TEXT,
    is_foreign       INTEGER NOT NULL,  -- 1: no runner of ours ever was in it
    started_at       TEXT,
    ended_at         TEXT,
    last_message_at  TEXT,
    messages         INTEGER,           -- NULL: nobody has read it yet
    parent_id        TEXT,              -- the conversation that it was forked from
    title            TEXT,              -- its agent's own, or the first prompt
    name             TEXT,              -- what a person called it
    reported_nano_usd INTEGER,          -- what its agent said at exit that it cost, calls that stand nowhere included
    transcript_path  TEXT,
    transcript_bytes INTEGER,
    archive_path     TEXT,
    archive_sha256   TEXT,              -- of what was compressed
    archived_at      TEXT,
    examined_at      TEXT,              -- the end at which it was last copied, or found to have nothing to be copied
    UNIQUE (agent, id),
    CHECK ((archive_path IS NULL) = (archived_at IS NULL)),
    CHECK ((archive_path IS NULL) = (archive_sha256 IS NULL))
) STRICT;

CREATE INDEX sessions_id ON sessions (id);
CREATE INDEX sessions_project ON sessions (project_id);
CREATE INDEX sessions_last ON sessions (last_message_at);
CREATE INDEX sessions_unexamined ON sessions (ended_at)
    WHERE is_foreign = 0 AND ended_at IS NOT NULL AND (examined_at IS NULL OR examined_at < ended_at);

-- Which run was in which conversation, and when. An open row is the lease: one writer per conversation.
-- Rows outlive their runners: what a removed runner spent is still its own.
CREATE TABLE session_runs (
    session    INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    run_key    TEXT    NOT NULL,
    runner_id  TEXT    NOT NULL,
    from_at    TEXT    NOT NULL,
    until_at   TEXT,
    PRIMARY KEY (session, run_key, from_at)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX session_lease ON session_runs (session) WHERE until_at IS NULL;
CREATE INDEX session_runs_runner ON session_runs (runner_id);
CREATE INDEX session_runs_open ON session_runs (run_key) WHERE until_at IS NULL;

-- How many messages of a conversation stand in which file: of copies of one file the longest counts, and who reads one
-- again from its beginning takes them back.
CREATE TABLE session_files (
    session  INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
    path     TEXT    NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (session, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX session_files_path ON session_files (path);

-- How far each file of an agent was read. The offset is just behind the last consumed line end.
CREATE TABLE tails (
    path          TEXT    PRIMARY KEY,
    agent         TEXT    NOT NULL,
    home          TEXT    NOT NULL,
    session_id    TEXT,
    is_subagent   INTEGER NOT NULL DEFAULT 0,
    device        INTEGER NOT NULL DEFAULT 0,
    inode         INTEGER NOT NULL DEFAULT 0,
    head_sha256   TEXT    NOT NULL DEFAULT '',
    generation    INTEGER NOT NULL DEFAULT 0,
    offset        INTEGER NOT NULL DEFAULT 0,
    size_seen     INTEGER NOT NULL DEFAULT 0,
    is_skipping   INTEGER NOT NULL DEFAULT 0,  -- the offset is inside a line that is too long to be read
    bad_lines     INTEGER NOT NULL DEFAULT 0,
    skipped_bytes INTEGER NOT NULL DEFAULT 0,
    memory        TEXT    NOT NULL DEFAULT '',
    cursor        TEXT    NOT NULL DEFAULT ''   -- in place of the offset, where the file is a database
) STRICT;

CREATE INDEX tails_session ON tails (agent, session_id);

-- The ledger: one row per call of an agent's API.
CREATE TABLE usage (
    agent                 TEXT    NOT NULL,
    key                   TEXT    NOT NULL,
    session               INTEGER REFERENCES sessions (number) ON DELETE SET NULL,
    runner_id             TEXT,
    project_id            INTEGER,
    at                    TEXT    NOT NULL,
    model                 TEXT    NOT NULL,
    input_tokens          INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    cache_write_5m_tokens INTEGER NOT NULL,
    cache_write_1h_tokens INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    cost_nano_usd         INTEGER,           -- by our price table; NULL: the model has no price
    agent_cost_nano_usd   INTEGER,           -- the agent's own figure
    request_id            TEXT,
    source                TEXT    NOT NULL CHECK (source IN ('transcript', 'otlp', 'database')),
    path                  TEXT    NOT NULL,  -- the file that owns it where a fork repeats it
    is_subagent           INTEGER NOT NULL,
    PRIMARY KEY (agent, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_at ON usage (at);
CREATE INDEX usage_session ON usage (session, at);
CREATE INDEX usage_runner ON usage (runner_id, at);
CREATE INDEX usage_project ON usage (project_id, at);
CREATE INDEX usage_unpriced ON usage (model) WHERE cost_nano_usd IS NULL;
CREATE INDEX usage_request ON usage (agent, request_id) WHERE request_id IS NOT NULL;

-- What the configuration said that models cost when the calls of the ledger were priced: five numbers as JSON; empty
-- while their calls are being priced again.
CREATE TABLE configured_prices (
    model TEXT PRIMARY KEY,
    price TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What each runner used so far: changed together with the ledger, so that a list of runners need not add up.
CREATE TABLE runner_usage (
    runner_id      TEXT    PRIMARY KEY,
    calls          INTEGER NOT NULL DEFAULT 0,
    tokens         INTEGER NOT NULL DEFAULT 0,
    cost_nano_usd  INTEGER NOT NULL DEFAULT 0,
    unpriced_calls INTEGER NOT NULL DEFAULT 0,
    model          TEXT,                      -- of its newest call
    last_at        TEXT
) STRICT, WITHOUT ROWID;

-- How much of each account's allowance is used, as its agent says.
CREATE TABLE account_windows (
    agent        TEXT NOT NULL,
    home         TEXT NOT NULL,
    name         TEXT NOT NULL,
    used_percent REAL NOT NULL,
    resets_at    TEXT,
    at           TEXT NOT NULL,
    PRIMARY KEY (agent, home, name)
) STRICT, WITHOUT ROWID;

-- By whose clock days begin: a name of the time zone database; empty: this machine's.
ALTER TABLE installation ADD COLUMN timezone TEXT NOT NULL DEFAULT '';

CREATE TABLE budgets (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- people type it: a number never means another budget
    scope          TEXT    NOT NULL CHECK (scope IN ('global', 'project', 'runner')),
    project_id     INTEGER REFERENCES projects (id) ON DELETE CASCADE,
    runner_id      TEXT    REFERENCES runners (id) ON DELETE CASCADE,
    period         TEXT    NOT NULL CHECK (period IN ('hourly', 'daily', 'weekly', 'monthly', 'run', '5h', '7d')),
    limit_tokens   INTEGER CHECK (limit_tokens >= 0),
    limit_nano_usd INTEGER CHECK (limit_nano_usd >= 0),
    limit_percent  REAL    CHECK (limit_percent BETWEEN 0 AND 100),
    warn           TEXT    NOT NULL DEFAULT '[75,90]',
    on_exceeded    TEXT    NOT NULL CHECK (on_exceeded IN ('warn', 'block', 'stop')),
    created_at     TEXT    NOT NULL,
    CHECK ((scope = 'project') = (project_id IS NOT NULL)),
    CHECK ((scope = 'runner') = (runner_id IS NOT NULL)),
    CHECK ((limit_tokens IS NOT NULL) + (limit_nano_usd IS NOT NULL) + (limit_percent IS NOT NULL) = 1),
    CHECK ((limit_percent IS NOT NULL) = (period IN ('5h', '7d')))
) STRICT;

CREATE UNIQUE INDEX budgets_one ON budgets (scope, COALESCE(project_id, 0), COALESCE(runner_id, ''), period,
                                            limit_tokens IS NULL, limit_nano_usd IS NULL);

-- What of a budget was used in one of its periods. `extra` is what `extend` added to the limit, for that period only.
CREATE TABLE budget_periods (
    budget_id        INTEGER NOT NULL REFERENCES budgets (id) ON DELETE CASCADE,
    starts_at        TEXT    NOT NULL,
    ends_at          TEXT,
    used_tokens      INTEGER NOT NULL DEFAULT 0,
    used_nano_usd    INTEGER NOT NULL DEFAULT 0,
    reserved_tokens  INTEGER NOT NULL DEFAULT 0,
    reserved_nano_usd INTEGER NOT NULL DEFAULT 0,
    extra_tokens     INTEGER NOT NULL DEFAULT 0,
    extra_nano_usd   INTEGER NOT NULL DEFAULT 0,
    extra_percent    REAL    NOT NULL DEFAULT 0,
    warned           TEXT    NOT NULL DEFAULT '[]',
    exceeded_at      TEXT,
    PRIMARY KEY (budget_id, starts_at)
) STRICT, WITHOUT ROWID;

-- An estimate, held against a budget for a run that has not spent it yet.
CREATE TABLE reservations (
    run_key   TEXT    NOT NULL REFERENCES runs (key) ON DELETE CASCADE,
    budget_id INTEGER NOT NULL REFERENCES budgets (id) ON DELETE CASCADE,
    starts_at TEXT    NOT NULL,  -- of the period that it is held in
    tokens    INTEGER NOT NULL,
    nano_usd  INTEGER NOT NULL,
    PRIMARY KEY (run_key, budget_id)
) STRICT, WITHOUT ROWID;

-- Runners that may not go on, and why: the rung of the ladder that they stand on. `warn`: nothing can hold its agent.
-- `wait`: it is between two runs, and the next begins when there is room.
CREATE TABLE blocks (
    runner_id  TEXT    PRIMARY KEY REFERENCES runners (id) ON DELETE CASCADE,
    budget_id  INTEGER REFERENCES budgets (id) ON DELETE SET NULL,
    reason     TEXT    NOT NULL,
    rung       TEXT    NOT NULL CHECK (rung IN ('warn', 'wait', 'block', 'stop')),
    since      TEXT    NOT NULL,
    since_boottime REAL NOT NULL,
    boot_id    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
    id           TEXT    PRIMARY KEY,
    runner_id    TEXT    NOT NULL REFERENCES runners (id) ON DELETE CASCADE,
    run_key      TEXT    NOT NULL,
    session_id   TEXT,
    tool         TEXT    NOT NULL,
    input        TEXT    NOT NULL,
    input_sha256 TEXT    NOT NULL,
    asked_at     TEXT    NOT NULL,
    expires_at   TEXT    NOT NULL,
    decision     TEXT    CHECK (decision IN ('allow', 'deny', 'expired', 'elsewhere')),
    for_session  INTEGER NOT NULL DEFAULT 0,
    reason       TEXT,
    decided_at   TEXT,
    decided_by   TEXT,
    CHECK ((decision IS NULL) = (decided_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX approvals_open ON approvals (runner_id) WHERE decision IS NULL;

CREATE VIEW public_runners AS
SELECT r.id, r.name, p.name AS project, r.agent,
       CASE WHEN r.retry_at IS NOT NULL THEN 'backoff' ELSE n.state END AS state,
       CASE WHEN n.ended_at IS NULL AND s.activity_since >= n.created_at THEN s.activity ELSE 'unknown' END AS activity,
       CASE WHEN n.ended_at IS NULL AND s.activity_since >= n.created_at THEN s.activity_since END AS activity_since,
       CASE WHEN n.ended_at IS NULL AND s.activity_since >= n.created_at THEN s.activity_source END AS activity_source,
       CASE WHEN n.ended_at IS NULL AND s.activity_since >= n.created_at THEN s.waiting_for END AS waiting_for,
       n.ended_at IS NULL AND r.prompt IS NOT NULL AND r.prompt_taken = 0
           AND COALESCE(s.activity_since >= n.created_at AND s.activity_source IN ('state file', 'hook'), 0)
           AS prompt_pending,
       CASE WHEN n.ended_at IS NULL THEN s.limit_resets_at END AS limit_resets_at,
       CASE WHEN n.ended_at IS NULL THEN n.pid END AS pid,
       n.exit_code, n.exit_signal, n.end_reason, n.end_detail, r.restarts, r.max_restarts, r.desired,
       r.restart_policy, r.retry_at, n.argv, r.cwd, r.tty, r.created_at, n.started_at, n.ended_at,
       CASE WHEN n.ended_at IS NULL THEN s.cpu_percent END AS cpu_percent,
       CASE WHEN n.ended_at IS NULL THEN s.rss_bytes END AS rss_bytes,
       CASE WHEN n.ended_at IS NULL THEN s.threads END AS threads,
       CASE WHEN n.ended_at IS NULL THEN s.children END AS children,
       s.seen_at,
       CASE WHEN n.ended_at IS NULL THEN COALESCE(s.health, 'unknown') ELSE 'ok' END AS health,
       r.session_id, CASE WHEN r.session_id IS NULL THEN r.session_detail END AS session_detail, r.run,
       CASE WHEN n.ended_at IS NULL AND r.run = 1 THEN s.output_bytes
            WHEN n.ended_at IS NULL THEN COALESCE(s.output_bytes, 0) + (SELECT COALESCE(SUM(o.output_bytes), 0)
                                                                          FROM runs AS o WHERE o.runner_id = r.id)
            WHEN r.run = 1 THEN n.output_bytes
            ELSE (SELECT SUM(o.output_bytes) FROM runs AS o WHERE o.runner_id = r.id) END AS output_bytes,
       CASE WHEN r.run = 1 THEN n.dropped_bytes
            ELSE (SELECT SUM(o.dropped_bytes) FROM runs AS o WHERE o.runner_id = r.id) END AS dropped_bytes,
       n.last_line, u.tokens,
       CASE WHEN u.unpriced_calls < u.calls THEN u.cost_nano_usd / 1e9 END AS cost_usd,  -- what nothing priced is unknown
       u.unpriced_calls, b.reason AS blocked,
       r.alive, r.project_id
  FROM runners AS r
  JOIN projects AS p ON p.id = r.project_id
  JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run
  LEFT JOIN samples AS s ON s.runner_id = r.id
  LEFT JOIN runner_usage AS u ON u.runner_id = r.id
  LEFT JOIN blocks AS b ON b.runner_id = r.id AND b.rung <> 'warn';
