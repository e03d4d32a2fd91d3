-- What the guest uses its RAM for: pages by class, and how many of them are not zero.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest) The snapshot.
SELECT g.class, count(*) AS pages,
       sum(g.pfn IN (SELECT pfn FROM stored_page WHERE snapshot = :snapshot)) AS nonzero_pages
  FROM guest_page(:snapshot) g
 GROUP BY g.class
 ORDER BY nonzero_pages DESC, g.class;
