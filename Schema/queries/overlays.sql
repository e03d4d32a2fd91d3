-- The overlays of a snapshot at each PFN: which one the guest sees, and what lies beneath it.
--
-- state is active (the guest sees it), pending (stacked beneath the active one), or outside (no
-- RAM at that PFN).
--
-- :snapshot (snapshot = latest) The snapshot.
SELECT o.pfn,
       row_number() OVER stack - 1 AS depth,
       CASE WHEN NOT EXISTS (
              SELECT 1 FROM memory_region r
               WHERE r.snapshot_id = o.snapshot_id
                 AND o.pfn >= r.gpa / 4096 AND o.pfn < (r.gpa + r.bytes) / 4096)
            THEN 'outside'
            WHEN row_number() OVER stack = 1 THEN 'active'
            ELSE 'pending' END AS state,
       o.kind, k.priority, CASE k.scope WHEN 'vp' THEN o.vp END AS vp, o.parameters,
       k.contents, o.baked
  FROM overlay o JOIN overlay_kind k ON k.kind = o.kind
 WHERE o.snapshot_id = (SELECT id FROM snapshot WHERE name = :snapshot AND state = 'complete')
WINDOW stack AS (PARTITION BY o.pfn ORDER BY k.priority, o.vp)
 ORDER BY o.pfn, depth;
