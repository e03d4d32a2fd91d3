-- Where the content of one page is found, in any snapshot of any virtual machine.
--
-- :pfn (pfn) The page.
-- :snapshot (snapshot = latest) The snapshot that has the page.
-- :limit (count = 50) At most this many rows.
WITH content (chunk_id, slot) AS MATERIALIZED (
  SELECT e.chunk_id, e.first_slot + :pfn - e.first_pfn
    FROM ram_extent e
   WHERE e.snapshot_id = (SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete')
     -- An extent has at most 16 pages: the one over a page begins at most 15 before it.
     AND e.first_pfn BETWEEN :pfn - 15 AND :pfn AND e.first_pfn + e.page_count > :pfn
)
SELECT s.name AS snapshot, s.vm, e.first_pfn + t.slot - e.first_slot AS pfn
  FROM content t
  CROSS JOIN snapshot s ON s.state = 'complete'
  CROSS JOIN ram_extent e
    ON e.snapshot_id = s.id AND e.chunk_id = t.chunk_id
   AND t.slot >= e.first_slot AND t.slot < e.first_slot + e.page_count
 ORDER BY s.id, pfn
 LIMIT :limit;
