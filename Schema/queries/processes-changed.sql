-- Which of the guest's processes started, ended, grew or shrank between two snapshots.
--
-- A process is the same if its PID and its start are.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
WITH
before AS MATERIALIZED (SELECT * FROM guest_process(:snapshot)),
after AS MATERIALIZED (SELECT * FROM guest_process(:other)),
change (change, pid, comm, old_rss_bytes, rss_bytes, command) AS (
  SELECT 'ended', a.pid, a.comm, a.rss_pages * 4096, NULL, a.cmdline
    FROM before a
   WHERE NOT EXISTS (SELECT 1 FROM after b WHERE b.pid = a.pid AND b.start_ns = a.start_ns)
  UNION ALL
  SELECT 'started', b.pid, b.comm, NULL, b.rss_pages * 4096, b.cmdline
    FROM after b
   WHERE NOT EXISTS (SELECT 1 FROM before a WHERE a.pid = b.pid AND a.start_ns = b.start_ns)
  UNION ALL
  SELECT iif(b.rss_pages > a.rss_pages, 'grew', 'shrank'), b.pid, b.comm, a.rss_pages * 4096,
         b.rss_pages * 4096, b.cmdline
    FROM before a JOIN after b ON b.pid = a.pid AND b.start_ns = a.start_ns
   WHERE a.rss_pages <> b.rss_pages
)
SELECT change, pid, old_rss_bytes, rss_bytes,
       coalesce(nullif(command, ''), '[' || comm || ']') AS command
  FROM change
 ORDER BY change, abs(coalesce(rss_bytes, 0) - coalesce(old_rss_bytes, 0)) DESC, pid;
