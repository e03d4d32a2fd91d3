-- The feature working-sets: made with the first recording of what a VM touches when it starts.

-- A recording of the pages that a VM touched first, while a page server gave it the snapshot's RAM.
-- A hint: no page is wrong without it, or with another.
CREATE TABLE working_set (
  snapshot_id      INTEGER NOT NULL PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
  door             TEXT    NOT NULL CHECK (length(door) BETWEEN 1 AND 32),
  recorded_at      TEXT    NOT NULL,
  duration_seconds REAL    NOT NULL CHECK (duration_seconds >= 0)
) STRICT;

-- The pages in the order of their first touch.
CREATE TABLE working_set_run (
  snapshot_id INTEGER NOT NULL REFERENCES working_set (snapshot_id) ON DELETE CASCADE,
  position    INTEGER NOT NULL CHECK (position BETWEEN 0 AND 262143),
  first_pfn   INTEGER NOT NULL CHECK (first_pfn BETWEEN 0 AND 4503599627370495),
  page_count  INTEGER NOT NULL CHECK (page_count BETWEEN 1 AND 4503599627370496),
  PRIMARY KEY (snapshot_id, position)
) STRICT, WITHOUT ROWID;
