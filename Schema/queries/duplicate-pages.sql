-- The contents that a snapshot holds most often.
--
-- :snapshot (snapshot = latest) The snapshot.
-- :limit (count = 10) At most this many rows.
WITH content (chunk_id, slot, copies, first_pfn) AS (
  SELECT e.chunk_id, e.first_slot + n.slot, count(*), min(e.first_pfn + n.slot)
    FROM ram_extent e CROSS JOIN chunk_slot n ON n.slot < e.page_count
   WHERE e.snapshot_id = (SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete')
   GROUP BY 1, 2
  HAVING count(*) > 1
   ORDER BY 3 DESC, 4
   LIMIT :limit
)
SELECT t.copies, t.first_pfn, lower(hex(substr(c.digests, t.slot * 32 + 1, 32))) AS digest
  FROM content t JOIN chunk c ON c.id = t.chunk_id
 ORDER BY t.copies DESC, t.first_pfn;
