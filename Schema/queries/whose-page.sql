-- What the guest's kernel uses a page for, and whose it is.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :pfn (pfn) The page.
-- :snapshot (snapshot = latest) The snapshot.
SELECT g.pfn, g.class, g.owner, g.pid, g.va, g.file, g.page_index, g.flags, g.refs
  FROM guest_page(:snapshot) g
 WHERE g.pfn = :pfn;
