-- Which processes the guest had, as ps shows them.
--
-- A command in brackets is a kernel thread, or a process without arguments. started_s is counted
-- from the guest's boot.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest) The snapshot.
SELECT pid, ppid, uid, state, rss_pages * 4096 AS rss_bytes, round(start_ns / 1e9, 2) AS started_s,
       coalesce(nullif(cmdline, ''), '[' || comm || ']') AS command
  FROM guest_process(:snapshot)
 ORDER BY pid;
