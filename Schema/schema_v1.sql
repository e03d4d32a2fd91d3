-- vmckpt store format, version 1. Every table, column and view is documented in README.md.
--
-- The writer sets page_size = 4096 and auto_vacuum = INCREMENTAL before it runs this file, in
-- one transaction that also sets application_id and user_version.

-- One row: what this store is, and who made it.
CREATE TABLE store (
  id               INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
  uuid             TEXT    NOT NULL CHECK (length(uuid) = 36),
  created_at       TEXT    NOT NULL,
  created_by       TEXT    NOT NULL,
  fingerprint_seed INTEGER NOT NULL
) STRICT;

-- What this store has beyond its format's version, by name. A program that does not know a feature must
-- not write the store, and must not read it either where 'reader' is required.
CREATE TABLE feature (
  name     TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
  required TEXT NOT NULL CHECK (required IN ('reader', 'writer'))
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot (
  id                 INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  uuid               TEXT    NOT NULL UNIQUE CHECK (length(uuid) = 36),
  name               TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 255),
  vm                 TEXT    NOT NULL CHECK (length(vm) BETWEEN 1 AND 255),
  parent_id          INTEGER REFERENCES snapshot (id) ON DELETE SET NULL,
  state              TEXT    NOT NULL CHECK (state IN ('writing', 'complete')),
  started_at         TEXT    NOT NULL,
  completed_at       TEXT,
  source             TEXT    NOT NULL,
  producer           TEXT    NOT NULL,
  guest_os_id        TEXT    CHECK (guest_os_id GLOB '0x[0-9a-f]*' AND length(guest_os_id) = 18),
  cpu_vendor         TEXT    CHECK (cpu_vendor IN ('intel', 'amd')),
  tsc_frequency_hz   INTEGER CHECK (tsc_frequency_hz > 0),
  ram_bytes          INTEGER NOT NULL CHECK (ram_bytes > 0 AND ram_bytes % 4096 = 0),
  stored_pages       INTEGER NOT NULL DEFAULT 0 CHECK (stored_pages >= 0),
  ram_checksum       INTEGER,
  new_pages          INTEGER NOT NULL DEFAULT 0 CHECK (new_pages >= 0),
  new_stored_bytes   INTEGER NOT NULL DEFAULT 0 CHECK (new_stored_bytes >= 0),
  ram_digest         BLOB    CHECK (length(ram_digest) = 32),
  digest             BLOB    CHECK (length(digest) = 32),
  CHECK (state = 'writing'
         OR (completed_at IS NOT NULL AND ram_checksum IS NOT NULL
             AND ram_digest IS NOT NULL AND digest IS NOT NULL))
) STRICT;

CREATE INDEX snapshot_parent ON snapshot (parent_id);
CREATE INDEX snapshot_vm ON snapshot (vm, id);

CREATE TABLE snapshot_tag (
  snapshot_id INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  key         TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  value       TEXT    NOT NULL,
  PRIMARY KEY (snapshot_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE memory_region (
  snapshot_id INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  gpa         INTEGER NOT NULL CHECK (gpa >= 0 AND gpa % 4096 = 0),
  bytes       INTEGER NOT NULL CHECK (bytes > 0 AND bytes % 4096 = 0),
  file_offset INTEGER NOT NULL CHECK (file_offset >= 0 AND file_offset % 4096 = 0),
  name        TEXT    NOT NULL,
  PRIMARY KEY (snapshot_id, gpa)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a number is never given twice in the life of a store, so that a program that holds
-- one whose chunk is gone finds nothing.
CREATE TABLE chunk (
  id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  page_count   INTEGER NOT NULL CHECK (page_count BETWEEN 1 AND 16),
  stored_bytes INTEGER NOT NULL CHECK (stored_bytes > 0),
  encoding     TEXT    NOT NULL CHECK (length(encoding) BETWEEN 1 AND 32),
  optimized    INTEGER NOT NULL DEFAULT 0 CHECK (optimized IN (0, 1)),
  digests      BLOB    NOT NULL CHECK (length(digests) = 32 * page_count),
  fingerprints BLOB    NOT NULL CHECK (length(fingerprints) = 8 * page_count)
) STRICT;

CREATE TABLE chunk_data (
  chunk_id INTEGER NOT NULL PRIMARY KEY REFERENCES chunk (id),
  data     BLOB    NOT NULL
) STRICT;

-- checksum ties the extent to the pages that it was written for; the sum over a snapshot's extents
-- is snapshot.ram_checksum.
CREATE TABLE ram_extent (
  snapshot_id INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  first_pfn   INTEGER NOT NULL CHECK (first_pfn >= 0),
  page_count  INTEGER NOT NULL CHECK (page_count BETWEEN 1 AND 16),
  chunk_id    INTEGER NOT NULL REFERENCES chunk (id),
  first_slot  INTEGER NOT NULL CHECK (first_slot BETWEEN 0 AND 15),
  checksum    INTEGER NOT NULL,
  PRIMARY KEY (snapshot_id, first_pfn)
) STRICT, WITHOUT ROWID;

-- The page index: sorted runs of (digest prefix, chunk, slot), each in blocks of 250 entries.
-- A run's blocks have consecutive ids from id * 16777216; fences holds the first prefix of each.
CREATE TABLE page_index_run (
  id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  state        TEXT    NOT NULL CHECK (state IN ('building', 'active')),
  entry_count  INTEGER NOT NULL CHECK (entry_count >= 0),
  filter_lines INTEGER NOT NULL CHECK (filter_lines >= 0),
  fences       BLOB    NOT NULL CHECK (length(fences) % 8 = 0)
) STRICT;

CREATE TABLE page_index_block (
  id      INTEGER NOT NULL PRIMARY KEY,
  entries BLOB    NOT NULL CHECK (length(entries) > 0 AND length(entries) % 16 = 0)
) STRICT;

-- A run's Bloom filter in sections of up to 62 lines, each of 64 bytes; those of a run have
-- consecutive ids from that of its first block.
CREATE TABLE page_index_filter (
  id   INTEGER NOT NULL PRIMARY KEY,
  bits BLOB    NOT NULL CHECK (length(bits) BETWEEN 64 AND 3968 AND length(bits) % 64 = 0)
) STRICT;

-- Lowest priority wins. Priorities are part of the format and are never renumbered. vmckpt inserts the rows.
CREATE TABLE overlay_kind (
  kind     TEXT    NOT NULL PRIMARY KEY,
  priority INTEGER NOT NULL UNIQUE CHECK (priority >= 0),
  scope    TEXT    NOT NULL CHECK (scope IN ('vm', 'vp')),
  contents TEXT    NOT NULL CHECK (contents IN ('derived', 'stored'))
) STRICT, WITHOUT ROWID;

CREATE TABLE overlay (
  snapshot_id       INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  pfn               INTEGER NOT NULL CHECK (pfn BETWEEN 0 AND 4503599627370495),
  kind              TEXT    NOT NULL REFERENCES overlay_kind (kind),
  vp                INTEGER NOT NULL DEFAULT 0 CHECK (vp BETWEEN 0 AND 4294967295),
  parameters        TEXT    NOT NULL CHECK (json_valid(parameters)
                                            AND json_type(parameters) = 'object'),
  contents_chunk_id INTEGER REFERENCES chunk (id),
  contents_slot     INTEGER CHECK (contents_slot BETWEEN 0 AND 15),
  baked             INTEGER NOT NULL CHECK (baked IN (0, 1)),
  PRIMARY KEY (snapshot_id, pfn, kind, vp),
  CHECK ((contents_chunk_id IS NULL) = (contents_slot IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE device_state (
  snapshot_id   INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
  position      INTEGER NOT NULL CHECK (position >= 0),
  name          TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
  format        TEXT    NOT NULL,
  version       INTEGER NOT NULL CHECK (version >= 0),
  bytes         INTEGER NOT NULL CHECK (bytes >= 0),
  sha256        BLOB    NOT NULL CHECK (length(sha256) = 32),
  encoding      TEXT    NOT NULL CHECK (length(encoding) BETWEEN 1 AND 32),
  data          BLOB    NOT NULL,
  PRIMARY KEY (snapshot_id, position),
  UNIQUE (snapshot_id, name)
) STRICT;

-- ---------------------------------------------------------------------------------------------
-- Views

-- The slots that a chunk can have.
CREATE VIEW chunk_slot (slot) AS
  VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

CREATE VIEW snapshot_summary AS
  SELECT s.name, s.vm, p.name AS parent, s.completed_at,
         s.ram_bytes, s.stored_pages * 4096 AS stored_page_bytes,
         s.new_pages * 4096 AS new_page_bytes, s.new_stored_bytes,
         (SELECT count(*) FROM overlay o WHERE o.snapshot_id = s.id) AS overlays,
         (SELECT count(*) FROM device_state d WHERE d.snapshot_id = s.id) AS device_states,
         (SELECT group_concat(t.key || '=' || t.value, ', ')
            FROM snapshot_tag t WHERE t.snapshot_id = s.id) AS tags,
         s.uuid, lower(hex(s.digest)) AS digest
    FROM snapshot s LEFT JOIN snapshot p ON p.id = s.parent_id
   WHERE s.state = 'complete'
   ORDER BY s.id;

-- Every overlay of every snapshot with its depth at its PFN: 0 is the one that the guest sees.
CREATE VIEW overlay_stack AS
  SELECT s.name AS snapshot, o.pfn, printf('0x%x', o.pfn) AS pfn_hex,
         row_number() OVER (PARTITION BY o.snapshot_id, o.pfn ORDER BY k.priority, o.vp) - 1
           AS depth,
         o.kind, k.priority, k.scope, CASE k.scope WHEN 'vp' THEN o.vp END AS vp,
         o.parameters, o.baked,
         EXISTS (SELECT 1 FROM memory_region r
                  WHERE r.snapshot_id = o.snapshot_id
                    AND o.pfn >= r.gpa / 4096 AND o.pfn < (r.gpa + r.bytes) / 4096) AS in_ram,
         o.contents_chunk_id, o.contents_slot
    FROM overlay o
    JOIN snapshot s ON s.id = o.snapshot_id AND s.state = 'complete'
    JOIN overlay_kind k ON k.kind = o.kind;

CREATE VIEW active_overlay AS
  SELECT snapshot, pfn, pfn_hex, kind, vp, parameters, baked
    FROM overlay_stack WHERE depth = 0 AND in_ram;

-- A row for each slot of each chunk.
CREATE VIEW chunk_page AS
  SELECT c.id AS chunk_id, n.slot, lower(hex(substr(c.digests, n.slot * 32 + 1, 32))) AS digest,
         c.stored_bytes / c.page_count AS stored_bytes
    FROM chunk c JOIN chunk_slot n ON n.slot < c.page_count;

-- A row for each guest page that is not zero.
CREATE VIEW stored_page AS
  SELECT s.name AS snapshot, e.first_pfn + n.slot AS pfn, (e.first_pfn + n.slot) * 4096 AS gpa,
         e.chunk_id, e.first_slot + n.slot AS slot,
         lower(hex(substr(c.digests, (e.first_slot + n.slot) * 32 + 1, 32))) AS digest
    FROM snapshot s
    JOIN ram_extent e ON e.snapshot_id = s.id
    JOIN chunk_slot n ON n.slot < e.page_count
    JOIN chunk c ON c.id = e.chunk_id
   WHERE s.state = 'complete';

-- What each snapshot has to itself: deleting it frees about unique_stored_bytes.
CREATE VIEW snapshot_sharing AS
  WITH use AS (
    SELECT DISTINCT e.snapshot_id, e.chunk_id, e.first_slot + n.slot AS slot
      FROM ram_extent e JOIN chunk_slot n ON n.slot < e.page_count
    UNION
    SELECT o.snapshot_id, o.contents_chunk_id, o.contents_slot
      FROM overlay o WHERE o.contents_chunk_id IS NOT NULL
  ),
  page AS (
    SELECT chunk_id, slot, count(*) AS users, min(snapshot_id) AS only_user
      FROM use GROUP BY chunk_id, slot
  ),
  total AS (
    SELECT u.snapshot_id, count(*) AS pages,
           sum(p.users = 1) AS unique_pages,
           sum((p.users = 1) * c.stored_bytes / c.page_count) AS unique_stored_bytes,
           sum((p.users > 1) * c.stored_bytes / c.page_count) AS shared_stored_bytes
      FROM use u
      JOIN page p ON p.chunk_id = u.chunk_id AND p.slot = u.slot
      JOIN chunk c ON c.id = u.chunk_id
     GROUP BY u.snapshot_id
  )
  SELECT s.name AS snapshot, s.vm,
         coalesce(t.pages, 0) AS distinct_pages,
         coalesce(t.unique_pages, 0) AS unique_pages,
         coalesce(t.pages - t.unique_pages, 0) AS shared_pages,
         coalesce(t.unique_stored_bytes, 0) AS unique_stored_bytes,
         coalesce(t.shared_stored_bytes, 0) AS shared_stored_bytes
    FROM snapshot s LEFT JOIN total t ON t.snapshot_id = s.id
   WHERE s.state = 'complete'
   ORDER BY s.id;

CREATE VIEW storage_stats AS
  SELECT (SELECT count(*) FROM snapshot WHERE state = 'complete') AS snapshots,
         (SELECT coalesce(sum(ram_bytes), 0) FROM snapshot WHERE state = 'complete')
           AS ram_bytes,
         (SELECT coalesce(sum(stored_pages), 0) * 4096 FROM snapshot WHERE state = 'complete')
           AS nonzero_bytes,
         (SELECT coalesce(sum(page_count), 0) * 4096 FROM chunk) AS distinct_page_bytes,
         (SELECT coalesce(sum(stored_bytes), 0) FROM chunk) AS stored_bytes,
         (SELECT count(*) FROM chunk) AS chunks,
         (SELECT coalesce(sum(length(data)), 0) FROM device_state) AS device_state_bytes,
         (SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)
           AS file_bytes,
         (SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size)
           AS free_bytes;
