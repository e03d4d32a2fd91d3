-- Which of the guest's processes have the most memory.
--
-- rss_bytes is what a process has in RAM, vsize_bytes what it has mapped.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest) The snapshot.
-- :limit (count = 20) At most this many processes.
SELECT pid, comm, uid, rss_pages * 4096 AS rss_bytes, vsize_pages * 4096 AS vsize_bytes,
       coalesce(nullif(cmdline, ''), '[' || comm || ']') AS command
  FROM guest_process(:snapshot)
 WHERE rss_pages > 0
 ORDER BY rss_pages DESC, pid
 LIMIT :limit;
