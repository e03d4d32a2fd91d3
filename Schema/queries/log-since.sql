-- What the guest's kernel logged between two snapshots.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
WITH before AS MATERIALIZED (SELECT seq, ts_ns FROM guest_dmesg(:snapshot))
SELECT b.seq, round(b.ts_ns / 1e9, 6) AS seconds, b.level, b.text
  FROM guest_dmesg(:other) b
 WHERE NOT EXISTS (SELECT 1 FROM before a WHERE a.seq = b.seq AND a.ts_ns = b.ts_ns)
 ORDER BY b.seq;
