-- A month of hours, made from the minutes of the days' files.
BEGIN;

CREATE TABLE series (
    key    INTEGER PRIMARY KEY,
    host   TEXT    NOT NULL,
    metric INTEGER NOT NULL,
    unit   TEXT    NOT NULL
);

CREATE TABLE metrics (
    key  INTEGER PRIMARY KEY,
    name TEXT    NOT NULL
);

CREATE TABLE hours (
    hour   INTEGER NOT NULL,
    series INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    sum    REAL    NOT NULL,
    min    REAL    NOT NULL,
    max    REAL    NOT NULL,
    last   REAL    NOT NULL,
    PRIMARY KEY (hour, series)
) WITHOUT ROWID;

-- Each host by its last value in each ten seconds of the hour: `count` such values, and of `hosts`
-- hosts the most in any ten seconds.
CREATE TABLE fleet (
    metric INTEGER NOT NULL,
    hour   INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    hosts  INTEGER NOT NULL,
    sum    REAL    NOT NULL,
    min    REAL    NOT NULL,
    max    REAL    NOT NULL,
    spread BLOB    NOT NULL,
    PRIMARY KEY (metric, hour)
) WITHOUT ROWID;

-- The last write of the minutes that an hour was made of.
CREATE TABLE made (
    hour  INTEGER PRIMARY KEY,
    flush INTEGER NOT NULL
);

PRAGMA user_version = 1;
COMMIT;
