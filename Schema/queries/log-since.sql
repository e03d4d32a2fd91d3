-- What the guest's kernel logged between two snapshots.
--
-- boot says whether both are of the same boot; of another one the whole log is new. seq counts a
-- boot's records: what is missing between two rows, or before the first, the log no longer had.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
WITH
before AS MATERIALIZED (SELECT seq, ts_ns, text FROM guest_dmesg(:snapshot)),
after AS MATERIALIZED (SELECT seq, ts_ns, level, text FROM guest_dmesg(:other)),
-- The last record that both may have, whole: a second boot writes none at the same nanosecond.
common (is_same) AS (
  SELECT a.ts_ns = b.ts_ns AND a.text = b.text
    FROM before a JOIN after b USING (seq)
   WHERE a.ts_ns > 0 AND a.text IS NOT NULL AND b.text IS NOT NULL
   ORDER BY seq DESC
   LIMIT 1
),
-- Without one, as when the log has gone once round: by number, place and time of the boot.
boot (is_same) AS (
  SELECT coalesce((SELECT is_same FROM common),
                  coalesce((SELECT max(seq) FROM after) >= (SELECT max(seq) FROM before), 1)
                  AND a.release IS b.release AND a.kaslr IS b.kaslr
                  AND coalesce(abs(a.boot_time - b.boot_time) < 60, 1))
    FROM guest_os(:snapshot) a, guest_os(:other) b
)
SELECT iif(o.is_same, 'same', 'another') AS boot, b.seq, round(b.ts_ns / 1e9, 6) AS seconds,
       b.level, b.text
  FROM boot o JOIN after b
 WHERE b.seq IS NOT NULL
   AND NOT (o.is_same
            AND EXISTS (SELECT 1 FROM before a WHERE a.seq = b.seq AND a.ts_ns = b.ts_ns))
 ORDER BY b.seq;
