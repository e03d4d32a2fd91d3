-- The feature absent-ranges: made with the first snapshot of a dump that left pages out.

-- Pages whose content is unknown, because a dump left them out. They are RAM, no extent holds them, and
-- they are not zero. No two runs of a snapshot touch or overlap.
CREATE TABLE absent_range (
  snapshot_id INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  first_pfn   INTEGER NOT NULL CHECK (first_pfn BETWEEN 0 AND 4503599627370495),
  page_count  INTEGER NOT NULL CHECK (page_count BETWEEN 1 AND 4503599627370496),
  PRIMARY KEY (snapshot_id, first_pfn)
) STRICT, WITHOUT ROWID;
