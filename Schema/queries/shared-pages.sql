-- What of a snapshot another one has too, at whatever address, in each memory region.
--
-- shared_pages are pages whose content :other holds somewhere, same_pfn_pages those that it holds
-- at the same PFN. Zero pages count in neither. Content counts as the same when it is stored once.
--
-- :snapshot (snapshot) The snapshot whose regions are listed.
-- :other (snapshot) The one to compare with, of the same virtual machine or another.
WITH
ours (id) AS MATERIALIZED (
  SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete'
),
theirs (id) AS MATERIALIZED (
  SELECT id FROM snapshot WHERE name = :other AND state = 'complete'
),
region (name, gpa, bytes, first_pfn, end_pfn) AS MATERIALIZED (
  SELECT name, gpa, bytes, gpa / 4096, (gpa + bytes) / 4096
    FROM memory_region WHERE snapshot_id = (SELECT id FROM ours)
),
content (place) AS MATERIALIZED (
  SELECT DISTINCT e.chunk_id * 16 + e.first_slot + n.slot
    FROM ram_extent e CROSS JOIN chunk_slot n ON n.slot < e.page_count
   WHERE e.snapshot_id = (SELECT id FROM theirs)
),
page (pfn, shared, same) AS (
  SELECT e.first_pfn + n.slot, e.chunk_id * 16 + e.first_slot + n.slot IN content,
         EXISTS (
           SELECT 1 FROM ram_extent t
            WHERE t.snapshot_id = (SELECT id FROM theirs)
              AND t.first_pfn BETWEEN e.first_pfn + n.slot - 15 AND e.first_pfn + n.slot
              AND t.first_pfn + t.page_count > e.first_pfn + n.slot
              AND t.chunk_id = e.chunk_id
              AND t.first_slot - t.first_pfn = e.first_slot - e.first_pfn)
    FROM ram_extent e CROSS JOIN chunk_slot n ON n.slot < e.page_count
   WHERE e.snapshot_id = (SELECT id FROM ours)
),
total (gpa, stored, shared, same) AS (
  SELECT r.gpa, count(*), sum(p.shared), sum(p.same)
    FROM page p CROSS JOIN region r ON p.pfn >= r.first_pfn AND p.pfn < r.end_pfn
   GROUP BY r.gpa
)
SELECT r.name AS region, r.gpa, r.bytes / 4096 AS pages,
       coalesce(t.stored, 0) AS nonzero_pages, coalesce(t.shared, 0) AS shared_pages,
       coalesce(t.same, 0) AS same_pfn_pages
  FROM region r LEFT JOIN total t ON t.gpa = r.gpa
 ORDER BY r.gpa;
