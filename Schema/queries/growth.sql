-- How much the saves of each day added, and the sum so far.
--
-- Only what complete snapshots added counts: a deleted snapshot takes its part with it.
--
-- :vm (vm = *) Only snapshots of this virtual machine; * for all.
SELECT date(completed_at) AS day, count(*) AS snapshots, sum(new_pages) * 4096 AS new_bytes,
       sum(new_stored_bytes) AS new_stored_bytes,
       sum(sum(new_stored_bytes)) OVER (ORDER BY date(completed_at)) AS total_stored_bytes
  FROM snapshot
 WHERE state = 'complete' AND (:vm IS NULL OR vm = :vm)
 GROUP BY date(completed_at)
 ORDER BY day;
