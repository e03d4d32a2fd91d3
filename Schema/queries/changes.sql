-- What changed from one snapshot to another, in each memory region.
--
-- Pages are added (zero before), zeroed, changed, unchanged and not zero, or absent: a dump left
-- them out of one snapshot, and the other has them. The regions are those of the later snapshot.
-- 'vmckpt diff' reports overlays and device states too.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
WITH
-- Pages that a dump left out. Only a store with the feature absent-ranges has the table.
absent (snapshot_id, first_pfn, page_count) AS NOT MATERIALIZED (
  SELECT snapshot_id, first_pfn, page_count FROM absent_range
),
before (id) AS MATERIALIZED (
  SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete'
),
after (id) AS MATERIALIZED (
  SELECT id FROM snapshot WHERE name = :other AND state = 'complete'
),
region (name, gpa, bytes, first_pfn, end_pfn) AS MATERIALIZED (
  SELECT name, gpa, bytes, gpa / 4096, (gpa + bytes) / 4096
    FROM memory_region WHERE snapshot_id = (SELECT id FROM after)
),
-- Runs of pages that both have. An extent has at most 16 pages, so that few can overlap another.
both (first_pfn, end_pfn, chunk_a, shift_a, chunk_b, shift_b) AS (
  SELECT max(a.first_pfn, b.first_pfn),
         min(a.first_pfn + a.page_count, b.first_pfn + b.page_count),
         a.chunk_id, a.first_slot - a.first_pfn, b.chunk_id, b.first_slot - b.first_pfn
    FROM ram_extent a
    CROSS JOIN ram_extent b
      ON b.snapshot_id = (SELECT id FROM after)
     AND b.first_pfn BETWEEN a.first_pfn - 15 AND a.first_pfn + min(a.page_count, 16) - 1
     AND b.first_pfn + b.page_count > a.first_pfn
   WHERE a.snapshot_id = (SELECT id FROM before)
),
run (first_pfn, end_pfn, class) AS (
  SELECT max(e.first_pfn, n.first_pfn),
         min(e.first_pfn + e.page_count, n.first_pfn + n.page_count), 'lost'
    FROM absent n
    CROSS JOIN ram_extent e
      ON e.snapshot_id = (SELECT id FROM before)
     AND e.first_pfn BETWEEN n.first_pfn - 15 AND n.first_pfn + n.page_count - 1
     AND e.first_pfn + e.page_count > n.first_pfn
   WHERE n.snapshot_id = (SELECT id FROM after)
  UNION ALL
  SELECT max(e.first_pfn, n.first_pfn),
         min(e.first_pfn + e.page_count, n.first_pfn + n.page_count), 'found'
    FROM absent n
    CROSS JOIN ram_extent e
      ON e.snapshot_id = (SELECT id FROM after)
     AND e.first_pfn BETWEEN n.first_pfn - 15 AND n.first_pfn + n.page_count - 1
     AND e.first_pfn + e.page_count > n.first_pfn
   WHERE n.snapshot_id = (SELECT id FROM before)
  UNION ALL
  SELECT first_pfn, first_pfn + page_count, 'before'
    FROM ram_extent WHERE snapshot_id = (SELECT id FROM before)
  UNION ALL
  SELECT first_pfn, first_pfn + page_count, 'after'
    FROM ram_extent WHERE snapshot_id = (SELECT id FROM after)
  UNION ALL
  SELECT first_pfn, end_pfn, 'unchanged'
    FROM both WHERE chunk_a = chunk_b AND shift_a = shift_b
  UNION ALL
  -- What lies elsewhere in the store is compared page by page.
  SELECT t.first_pfn + n.slot, t.first_pfn + n.slot + 1,
         CASE WHEN substr(a.digests, (t.first_pfn + n.slot + t.shift_a) * 32 + 1, 32)
                 = substr(b.digests, (t.first_pfn + n.slot + t.shift_b) * 32 + 1, 32)
              THEN 'unchanged' ELSE 'changed' END
    FROM both t
    CROSS JOIN chunk a ON a.id = t.chunk_a
    CROSS JOIN chunk b ON b.id = t.chunk_b
    CROSS JOIN chunk_slot n ON n.slot < t.end_pfn - t.first_pfn
   WHERE NOT (t.chunk_a = t.chunk_b AND t.shift_a = t.shift_b)
),
total (gpa, before, after, unchanged, changed, lost, found) AS (
  SELECT r.gpa,
         sum((u.class = 'before') * (min(u.end_pfn, r.end_pfn) - max(u.first_pfn, r.first_pfn))),
         sum((u.class = 'after') * (min(u.end_pfn, r.end_pfn) - max(u.first_pfn, r.first_pfn))),
         sum((u.class = 'unchanged') * (min(u.end_pfn, r.end_pfn) - max(u.first_pfn, r.first_pfn))),
         sum((u.class = 'changed') * (min(u.end_pfn, r.end_pfn) - max(u.first_pfn, r.first_pfn))),
         sum((u.class = 'lost') * (min(u.end_pfn, r.end_pfn) - max(u.first_pfn, r.first_pfn))),
         sum((u.class = 'found') * (min(u.end_pfn, r.end_pfn) - max(u.first_pfn, r.first_pfn)))
    FROM run u
    CROSS JOIN region r ON r.first_pfn < u.end_pfn AND r.end_pfn > u.first_pfn
   GROUP BY r.gpa
)
SELECT r.name AS region, r.gpa, r.bytes / 4096 AS pages,
       coalesce(t.after - t.unchanged - t.changed - t.found, 0) AS added_pages,
       coalesce(t.before - t.unchanged - t.changed - t.lost, 0) AS zeroed_pages,
       coalesce(t.changed, 0) AS changed_pages,
       coalesce(t.unchanged, 0) AS unchanged_pages,
       coalesce(t.lost + t.found, 0) AS absent_pages
  FROM region r LEFT JOIN total t ON t.gpa = r.gpa
 ORDER BY r.gpa;
