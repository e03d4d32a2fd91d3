-- The feature leases: made with the first page server that writes one.

-- Who serves the pages of a snapshot to VMs that run. A snapshot with a lease is not deleted. Whoever has
-- the lease holds a lock on byte 16 + id of the store's lock file. lost_at is when a writer first found
-- that nobody holds it; seven days later the lease is removed.
CREATE TABLE lease (
  id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 1099511627776),
  snapshot_id INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  door        TEXT    NOT NULL CHECK (length(door) BETWEEN 1 AND 32),
  target      TEXT    NOT NULL CHECK (length(target) BETWEEN 1 AND 1024),
  holder      TEXT    NOT NULL CHECK (length(holder) BETWEEN 1 AND 255),
  begun_at    TEXT    NOT NULL,
  lost_at     TEXT
) STRICT;
