-- Each virtual machine with its snapshots and what they added to the store.
SELECT vm, count(*) AS snapshots, min(completed_at) AS first_completed_at,
       max(completed_at) AS last_completed_at, sum(new_pages) * 4096 AS new_bytes,
       sum(new_stored_bytes) AS new_stored_bytes
  FROM snapshot
 WHERE state = 'complete'
 GROUP BY vm
 ORDER BY new_stored_bytes DESC, vm;
