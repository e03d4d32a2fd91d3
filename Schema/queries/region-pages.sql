-- Zero, distinct and duplicate pages of a snapshot in each of its memory regions.
--
-- duplicate_pages are those that another page of the region equals, but for one of each sort.
--
-- :snapshot (snapshot = latest) The snapshot.
WITH
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
)
SELECT r.name AS region, r.gpa, r.bytes / 4096 AS pages,
       r.bytes / 4096 - coalesce(t.stored, 0) AS zero_pages,
       coalesce(t.distinct_pages, 0) AS distinct_pages,
       coalesce(t.stored - t.distinct_pages, 0) AS duplicate_pages
  FROM region r LEFT JOIN total t ON t.gpa = r.gpa
 ORDER BY r.gpa;
