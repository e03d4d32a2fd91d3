-- Whose pages changed from one snapshot to another: by class, process and file.
--
-- As vmckpt diff --who sums them up; pid and file are those of the later snapshot.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
-- :limit (count = 50) At most this many owners.
SELECT class, pid, owner, file, count(*) AS pages, sum(different_bytes) AS different_bytes
  FROM guest_change(:snapshot, :other)
 GROUP BY class, pid, owner, file
 ORDER BY pages DESC, class, pid
 LIMIT :limit;
