-- The snapshots with the most RAM that is not zero.
--
-- new_stored_bytes is what the snapshot added to the store when it was saved.
--
-- :limit (count = 20) At most this many rows.
SELECT name AS snapshot, vm, completed_at, ram_bytes, stored_pages * 4096 AS nonzero_bytes,
       new_pages * 4096 AS new_bytes, new_stored_bytes
  FROM snapshot
 WHERE state = 'complete'
 ORDER BY stored_pages DESC, id
 LIMIT :limit;
