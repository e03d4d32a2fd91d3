-- What two virtual machines have in common, over all of their snapshots.
--
-- Counts distinct contents, each once however often a guest has it. shared_stored_bytes is what
-- the store would need a second time if they did not share.
--
-- :vm (vm) A virtual machine.
-- :other_vm (vm) Another one.
WITH
ours (place) AS MATERIALIZED (
  SELECT DISTINCT e.chunk_id * 16 + e.first_slot + n.slot
    FROM snapshot s
    CROSS JOIN ram_extent e ON e.snapshot_id = s.id
    CROSS JOIN chunk_slot n ON n.slot < e.page_count
   WHERE s.vm = :vm AND s.state = 'complete'
),
theirs (place) AS MATERIALIZED (
  SELECT DISTINCT e.chunk_id * 16 + e.first_slot + n.slot
    FROM snapshot s
    CROSS JOIN ram_extent e ON e.snapshot_id = s.id
    CROSS JOIN chunk_slot n ON n.slot < e.page_count
   WHERE s.vm = :other_vm AND s.state = 'complete'
),
shared (pages, stored_bytes) AS (
  SELECT count(*), coalesce(sum(c.stored_bytes / c.page_count), 0)
    FROM ours o CROSS JOIN chunk c ON c.id = o.place / 16
   WHERE o.place IN theirs
)
SELECT :vm AS vm, (SELECT count(*) FROM ours) AS distinct_pages,
       :other_vm AS other_vm, (SELECT count(*) FROM theirs) AS other_distinct_pages,
       pages AS shared_pages, pages * 4096 AS shared_bytes, stored_bytes AS shared_stored_bytes
  FROM shared;
