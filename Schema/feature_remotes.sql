-- The feature remotes: made when the store first learns of a remote.

-- The remotes that this store has names for. What a user needs to get in is never here.
CREATE TABLE remote (
  id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  name     TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
  uuid     TEXT    NOT NULL CHECK (length(uuid) = 36),
  address  TEXT    NOT NULL CHECK (length(address) BETWEEN 1 AND 2048),
  endpoint TEXT    CHECK (length(endpoint) BETWEEN 1 AND 2048),
  region   TEXT    CHECK (length(region) BETWEEN 1 AND 64),
  added_at TEXT    NOT NULL
) STRICT;

-- The packs of a remote that this store knows. The footer lists what a pack holds; it can be had again.
CREATE TABLE remote_pack (
  id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  remote_id INTEGER NOT NULL REFERENCES remote (id) ON DELETE CASCADE,
  name      TEXT    NOT NULL CHECK (length(name) = 32),
  bytes     INTEGER NOT NULL CHECK (bytes > 0),
  footer    BLOB,
  UNIQUE (remote_id, name)
) STRICT;

-- Where a chunk is in a pack. A chunk without a row in chunk_data is only there.
CREATE TABLE chunk_place (
  chunk_id INTEGER NOT NULL REFERENCES chunk (id) ON DELETE CASCADE,
  pack_id  INTEGER NOT NULL REFERENCES remote_pack (id) ON DELETE CASCADE,
  entry    INTEGER NOT NULL CHECK (entry >= 0),
  offset   INTEGER NOT NULL CHECK (offset >= 0),
  PRIMARY KEY (chunk_id, pack_id),
  UNIQUE (pack_id, entry)
) STRICT, WITHOUT ROWID;

-- The snapshots of a remote that were pushed from here, or fetched: by their UUIDs, which are the same
-- everywhere. packs has the IDs of the packs that one needs, 16 bytes each.
CREATE TABLE remote_snapshot (
  remote_id INTEGER NOT NULL REFERENCES remote (id) ON DELETE CASCADE,
  uuid      TEXT    NOT NULL CHECK (length(uuid) = 36),
  manifest  TEXT    NOT NULL CHECK (length(manifest) BETWEEN 1 AND 800),
  vm        TEXT    NOT NULL CHECK (length(vm) BETWEEN 1 AND 255),
  seen_at   TEXT    NOT NULL,
  packs     BLOB    NOT NULL CHECK (length(packs) % 16 = 0),
  PRIMARY KEY (remote_id, uuid)
) STRICT, WITHOUT ROWID;

-- Small objects of a remote that never change, kept so that they are read once: lists of condemned packs,
-- and runs of its page index.
CREATE TABLE remote_object (
  remote_id INTEGER NOT NULL REFERENCES remote (id) ON DELETE CASCADE,
  key       TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 800),
  data      BLOB    NOT NULL,
  PRIMARY KEY (remote_id, key)
) STRICT;
