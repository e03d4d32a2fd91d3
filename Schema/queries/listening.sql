-- Which sockets of the guest wait for connections, and whose they are.
--
-- A socket that several processes hold has a row for each.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest) The snapshot.
SELECT CASE s.family WHEN 1 THEN 'unix' WHEN 2 THEN 'inet' WHEN 10 THEN 'inet6'
                     WHEN 40 THEN 'vsock' ELSE s.family END
         AS family,
       coalesce(s.path, s.laddr) AS address, s.lport AS port, s.pid, p.comm, s.fd
  FROM guest_socket(:snapshot) s LEFT JOIN guest_process(:snapshot) p ON p.pid = s.pid
 WHERE s.state = 'LISTEN'
 ORDER BY s.family, s.lport, address, s.pid, s.fd;
