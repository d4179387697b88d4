-- How far each node has shipped: this database has all its flushes up to this one.
CREATE TABLE IF NOT EXISTS nodes (
    node  BIGINT NOT NULL PRIMARY KEY,
    flush BIGINT NOT NULL
) ENGINE = InnoDB;
