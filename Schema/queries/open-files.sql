-- Which files the guest's processes have open.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest) The snapshot.
SELECT f.pid, p.comm, f.fd, f.path, f.pos, f.size
  FROM guest_file(:snapshot) f LEFT JOIN guest_process(:snapshot) p ON p.pid = f.pid
 ORDER BY f.pid, f.fd;
