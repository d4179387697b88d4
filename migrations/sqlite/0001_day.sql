-- One day of history. Times are minutes since the epoch (fleet: steps of ten seconds), keys the
-- first 64 bits of SHA-256 as in docs/HISTORY.md.
BEGIN;

CREATE TABLE series (
    key    INTEGER PRIMARY KEY,
    host   TEXT    NOT NULL,
    metric INTEGER NOT NULL,
    unit   TEXT    NOT NULL
);
CREATE INDEX series_metric ON series (metric);
CREATE INDEX series_host ON series (host);

CREATE TABLE metrics (
    key  INTEGER PRIMARY KEY,
    name TEXT    NOT NULL
);

-- One series in one minute; `points` is a block, or empty once the points were let go.
CREATE TABLE minutes (
    minute INTEGER NOT NULL,
    series INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    sum    REAL    NOT NULL,
    min    REAL    NOT NULL,
    max    REAL    NOT NULL,
    last   REAL    NOT NULL,
    flush  INTEGER NOT NULL,
    points BLOB    NOT NULL,
    PRIMARY KEY (minute, series)
) WITHOUT ROWID;

-- One metric over all hosts in ten seconds, each host by its last value; `spread` is a sketch.
CREATE TABLE fleet (
    metric INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    hosts  INTEGER NOT NULL,
    sum    REAL    NOT NULL,
    min    REAL    NOT NULL,
    max    REAL    NOT NULL,
    spread BLOB    NOT NULL,
    PRIMARY KEY (metric, step)
) WITHOUT ROWID;

-- Which minutes each write touched.
CREATE TABLE flushes (
    flush  INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    PRIMARY KEY (flush, minute)
) WITHOUT ROWID;

-- What of the journal is in here: everything before `position` of minutes up to `until`.
CREATE TABLE state (
    position INTEGER NOT NULL,
    until    INTEGER NOT NULL,
    flush    INTEGER NOT NULL,
    samples  INTEGER NOT NULL,
    rows     INTEGER NOT NULL,
    points   INTEGER NOT NULL
);
INSERT INTO state VALUES (0, -9223372036854775808, 0, 0, 0, 1);

PRAGMA user_version = 1;
COMMIT;
