-- An entry of the inbox covers a run of deliveries: those of one transaction that are next to each other in the log. Runs of a generation
-- have no position in common.
ALTER TABLE inbox RENAME TO inbox_of_one;
CREATE TABLE inbox (
    subscription TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    first        INTEGER NOT NULL, -- position
    last         INTEGER NOT NULL,
    PRIMARY KEY (subscription, generation, first)
) STRICT, WITHOUT ROWID;
INSERT INTO inbox (subscription, generation, first, last) SELECT subscription, generation, position, position FROM inbox_of_one;
DROP TABLE inbox_of_one;
