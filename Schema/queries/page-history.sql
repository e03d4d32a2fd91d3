-- How one page changed over the snapshots of a virtual machine.
--
-- content is the page's SHA-256, 'zero', 'absent' (unknown, because a dump left it out), or
-- 'no RAM'; change is how it differs from the snapshot in the row above.
--
-- :vm (vm) The virtual machine.
-- :pfn (pfn) The page.
WITH
-- Pages that a dump left out. Only a store with the feature absent-ranges has the table.
absent (snapshot_id, first_pfn, page_count) AS NOT MATERIALIZED (
  SELECT snapshot_id, first_pfn, page_count FROM absent_range
),
page (id, name, completed_at, content) AS (
  SELECT s.id, s.name, s.completed_at,
         coalesce(
           -- An extent has at most 16 pages: the one over a page begins at most 15 before it.
           (SELECT lower(hex(substr(c.digests, (e.first_slot + :pfn - e.first_pfn) * 32 + 1, 32)))
              FROM ram_extent e JOIN chunk c ON c.id = e.chunk_id
             WHERE e.snapshot_id = s.id AND e.first_pfn BETWEEN :pfn - 15 AND :pfn
               AND e.first_pfn + e.page_count > :pfn),
           (SELECT CASE WHEN a.first_pfn + a.page_count > :pfn THEN 'absent' END FROM absent a
             WHERE a.snapshot_id = s.id AND a.first_pfn <= :pfn
             ORDER BY a.first_pfn DESC LIMIT 1),
           (SELECT 'zero' FROM memory_region r
             WHERE r.snapshot_id = s.id
               AND :pfn >= r.gpa / 4096 AND :pfn < (r.gpa + r.bytes) / 4096),
           'no RAM')
    FROM snapshot s
   WHERE s.vm = :vm AND s.state = 'complete'
)
SELECT name AS snapshot, completed_at,
       CASE lag(content) OVER (ORDER BY id)
         WHEN content THEN 'same'
         ELSE CASE WHEN lag(content) OVER (ORDER BY id) IS NULL THEN 'first' ELSE 'changed' END
       END AS change,
       content
  FROM page
 ORDER BY id;
