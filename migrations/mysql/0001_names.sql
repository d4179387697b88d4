-- What the keys stand for, the first 64 bits of SHA-256 as in the embedded store. `day` is the
-- latest day since the epoch that has rows of it: a name is forgotten with the last of them.
CREATE TABLE IF NOT EXISTS series (
    `key`  BIGINT       NOT NULL PRIMARY KEY,
    host   VARCHAR(253) NOT NULL,
    metric BIGINT       NOT NULL,
    unit   VARCHAR(16)  NOT NULL,
    day    INT          NOT NULL,
    KEY series_host (host),
    KEY series_metric (metric),
    KEY series_day (day)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS metrics (
    `key` BIGINT       NOT NULL PRIMARY KEY,
    name  VARCHAR(256) NOT NULL,
    day   INT          NOT NULL,
    KEY metrics_day (day)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
