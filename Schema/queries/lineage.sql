-- A snapshot, its parent, the parent's parent and so on, with what each added.
--
-- generation is the N of NAME~N.
--
-- :snapshot (snapshot = latest) Where to begin.
WITH RECURSIVE line (generation, id, parent_id) AS (
  SELECT 0, id, parent_id FROM snapshot WHERE name = :snapshot AND state = 'complete'
  UNION ALL
  -- A parent is older than its child: so there is an end, whatever a damaged row says.
  SELECT l.generation + 1, p.id, p.parent_id
    FROM line l JOIN snapshot p ON p.id = l.parent_id AND p.id < l.id AND p.state = 'complete'
)
SELECT l.generation, s.name AS snapshot, s.vm, s.completed_at,
       s.stored_pages * 4096 AS nonzero_bytes, s.new_pages * 4096 AS new_bytes,
       s.new_stored_bytes
  FROM line l JOIN snapshot s ON s.id = l.id
 ORDER BY l.generation;
