-- Which pages changed from one snapshot to another, as ranges.
--
-- A page is absent when a dump left it out of one of the two: whether it changed is unknown.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
-- :limit (count = 50) At most this many ranges.
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
-- Pages of each in extents that the other does not have just so: all but these are equal.
old (pfn, chunk_id, slot) AS (
  SELECT a.first_pfn + n.slot, a.chunk_id, a.first_slot + n.slot
    FROM ram_extent a CROSS JOIN chunk_slot n ON n.slot < a.page_count
   WHERE a.snapshot_id = (SELECT id FROM before)
     AND NOT EXISTS (
       SELECT 1 FROM ram_extent b
        WHERE b.snapshot_id = (SELECT id FROM after) AND b.first_pfn = a.first_pfn
          AND b.page_count = a.page_count AND b.chunk_id = a.chunk_id
          AND b.first_slot = a.first_slot)
),
new (pfn) AS (
  SELECT b.first_pfn + n.slot
    FROM ram_extent b CROSS JOIN chunk_slot n ON n.slot < b.page_count
   WHERE b.snapshot_id = (SELECT id FROM after)
     AND NOT EXISTS (
       SELECT 1 FROM ram_extent a
        WHERE a.snapshot_id = (SELECT id FROM before) AND a.first_pfn = b.first_pfn
          AND a.page_count = b.page_count AND a.chunk_id = b.chunk_id
          AND a.first_slot = b.first_slot)
),
page (pfn, change) AS (
  -- An extent has at most 16 pages: the one over a page begins at most 15 before it.
  SELECT o.pfn,
         CASE
           WHEN b.chunk_id IS NOT NULL THEN 'changed'
           WHEN (SELECT a.first_pfn + a.page_count > o.pfn FROM absent a
                  WHERE a.snapshot_id = (SELECT id FROM after) AND a.first_pfn <= o.pfn
                  ORDER BY a.first_pfn DESC LIMIT 1) THEN 'absent'
           ELSE 'zeroed'
         END
    FROM old o
    LEFT JOIN ram_extent b
      ON b.snapshot_id = (SELECT id FROM after)
     AND b.first_pfn BETWEEN o.pfn - 15 AND o.pfn AND b.first_pfn + b.page_count > o.pfn
   WHERE b.chunk_id IS NULL
      OR NOT (b.chunk_id = o.chunk_id AND b.first_slot + o.pfn - b.first_pfn = o.slot)
     AND (SELECT substr(c.digests, o.slot * 32 + 1, 32) FROM chunk c WHERE c.id = o.chunk_id)
      <> (SELECT substr(c.digests, (b.first_slot + o.pfn - b.first_pfn) * 32 + 1, 32)
            FROM chunk c WHERE c.id = b.chunk_id)
  UNION ALL
  SELECT w.pfn,
         CASE
           WHEN (SELECT a.first_pfn + a.page_count > w.pfn FROM absent a
                  WHERE a.snapshot_id = (SELECT id FROM before) AND a.first_pfn <= w.pfn
                  ORDER BY a.first_pfn DESC LIMIT 1) THEN 'absent'
           ELSE 'added'
         END
    FROM new w
   WHERE NOT EXISTS (
     SELECT 1 FROM ram_extent a
      WHERE a.snapshot_id = (SELECT id FROM before)
        AND a.first_pfn BETWEEN w.pfn - 15 AND w.pfn AND a.first_pfn + a.page_count > w.pfn)
),
numbered (pfn, change, range) AS (
  SELECT pfn, change, pfn - row_number() OVER (PARTITION BY change ORDER BY pfn) FROM page
)
SELECT min(pfn) AS first_pfn, max(pfn) AS last_pfn, count(*) AS pages, change
  FROM numbered
 GROUP BY change, range
 ORDER BY first_pfn
 LIMIT :limit;
