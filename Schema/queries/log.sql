-- What the guest's kernel logged, as dmesg shows it.
--
-- seconds are counted from the guest's boot. Levels: 0 emergency, 3 error, 4 warning, 6
-- information, 7 debug.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest) The snapshot.
SELECT seq, round(ts_ns / 1e9, 6) AS seconds, level, text
  FROM guest_dmesg(:snapshot)
 ORDER BY seq;
