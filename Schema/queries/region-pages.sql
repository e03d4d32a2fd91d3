-- Zero, distinct and duplicate pages of a snapshot in each of its memory regions.
--
-- duplicate_pages are those that another page of the region equals, but for one of each sort;
-- absent_pages are unknown, because a dump left them out.
--
-- :snapshot (snapshot = latest) The snapshot.
WITH
-- Pages that a dump left out. Only a store with the feature absent-ranges has the table.
absent (snapshot_id, first_pfn, page_count) AS NOT MATERIALIZED (
  SELECT snapshot_id, first_pfn, page_count FROM absent_range
),
region (name, gpa, bytes, first_pfn, end_pfn) AS MATERIALIZED (
  SELECT r.name, r.gpa, r.bytes, r.gpa / 4096, (r.gpa + r.bytes) / 4096
    FROM memory_region r
   WHERE r.snapshot_id = (SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete')
),
page (gpa, chunk_id, slot, copies) AS (
  SELECT r.gpa, e.chunk_id, e.first_slot + n.slot, count(*)
    FROM ram_extent e
    CROSS JOIN chunk_slot n ON n.slot < e.page_count
    CROSS JOIN region r ON e.first_pfn + n.slot >= r.first_pfn AND e.first_pfn + n.slot < r.end_pfn
   WHERE e.snapshot_id = (SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete')
   GROUP BY 1, 2, 3
),
total (gpa, stored, distinct_pages) AS (
  SELECT gpa, sum(copies), count(*) FROM page GROUP BY gpa
),
unknown (gpa, pages) AS (
  SELECT r.gpa, sum(min(a.first_pfn + a.page_count, r.end_pfn) - max(a.first_pfn, r.first_pfn))
    FROM absent a
    CROSS JOIN region r ON r.first_pfn < a.first_pfn + a.page_count AND r.end_pfn > a.first_pfn
   WHERE a.snapshot_id = (SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete')
   GROUP BY r.gpa
)
SELECT r.name AS region, r.gpa, r.bytes / 4096 AS pages,
       r.bytes / 4096 - coalesce(t.stored, 0) - coalesce(u.pages, 0) AS zero_pages,
       coalesce(t.distinct_pages, 0) AS distinct_pages,
       coalesce(t.stored - t.distinct_pages, 0) AS duplicate_pages,
       coalesce(u.pages, 0) AS absent_pages
  FROM region r LEFT JOIN total t ON t.gpa = r.gpa LEFT JOIN unknown u ON u.gpa = r.gpa
 ORDER BY r.gpa;
