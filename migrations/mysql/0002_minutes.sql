-- One series in one minute (since the epoch), as one node saw it: two nodes may write the same.
-- `points` is a block, or empty once the points were let go. The server makes the days' partitions.
CREATE TABLE IF NOT EXISTS minutes (
    minute BIGINT     NOT NULL,
    series BIGINT     NOT NULL,
    node   BIGINT     NOT NULL,
    count  BIGINT     NOT NULL,
    sum    DOUBLE     NOT NULL,
    min    DOUBLE     NOT NULL,
    max    DOUBLE     NOT NULL,
    last   DOUBLE     NOT NULL,
    points MEDIUMBLOB NOT NULL,
    PRIMARY KEY (minute, series, node)
) ENGINE = InnoDB
PARTITION BY RANGE (minute) (PARTITION later VALUES LESS THAN MAXVALUE);
