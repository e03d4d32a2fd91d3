-- The feature overlay-origins: made with the first snapshot whose overlays were found by the save itself.

-- What the overlays of a snapshot were found in. A snapshot without a row has those that whoever saved it described,
-- in an overlays.json.
CREATE TABLE overlay_origin (
  snapshot_id INTEGER NOT NULL PRIMARY KEY REFERENCES snapshot (id) ON DELETE CASCADE,
  origin      TEXT    NOT NULL CHECK (length(origin) BETWEEN 1 AND 64)
) STRICT;
