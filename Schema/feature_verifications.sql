-- The feature verifications: made with the first verify that could note what it has found.

-- When what was last read as a whole and proved. snapshot_id is NULL for the whole store, or for a part of it: part of
-- parts. verified_at is when the verification began, and last_snapshot_id the newest snapshot then: what came to the
-- store later was not read. A hint: nothing depends on it.
CREATE TABLE verification (
  id               INTEGER NOT NULL PRIMARY KEY,
  snapshot_id      INTEGER REFERENCES snapshot (id) ON DELETE CASCADE,
  part             INTEGER NOT NULL CHECK (part BETWEEN 1 AND parts),
  parts            INTEGER NOT NULL CHECK (parts BETWEEN 1 AND 1000),
  verified_at      TEXT    NOT NULL CHECK (length(verified_at) = 24),
  last_snapshot_id INTEGER NOT NULL CHECK (last_snapshot_id >= 0),
  problems         INTEGER NOT NULL CHECK (problems >= 0)
) STRICT;

-- Snapshots with pages that a verification did not read, since they were in a remote only.
CREATE TABLE verification_gap (
  verification_id INTEGER NOT NULL REFERENCES verification (id) ON DELETE CASCADE,
  snapshot_id     INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  PRIMARY KEY (verification_id, snapshot_id)
) STRICT, WITHOUT ROWID;
