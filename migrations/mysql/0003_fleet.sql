-- One metric over the hosts of a node in ten seconds, each by its last value; `spread` is a sketch.
CREATE TABLE IF NOT EXISTS fleet (
    metric BIGINT     NOT NULL,
    step   BIGINT     NOT NULL,
    node   BIGINT     NOT NULL,
    hosts  BIGINT     NOT NULL,
    sum    DOUBLE     NOT NULL,
    min    DOUBLE     NOT NULL,
    max    DOUBLE     NOT NULL,
    spread MEDIUMBLOB NOT NULL,
    PRIMARY KEY (metric, step, node)
) ENGINE = InnoDB
PARTITION BY RANGE (step) (PARTITION later VALUES LESS THAN MAXVALUE);
