-- Of which files the pages in the guest's page cache changed between two snapshots.
--
-- Pages are compared by file and place in the file, wherever they are in RAM. Those that were in
-- the page cache at one moment alone, as a new file's are, do not count.
--
-- What the guest's kernel has in its memory: a guest can lie. The SQL needs vmckpt's functions,
-- which vmckpt query and vmckpt sql have.
--
-- :snapshot (snapshot = latest~1) The earlier snapshot.
-- :other (snapshot = latest) The later one.
WITH
-- Pages of files in the page cache, of both snapshots: those that are stored, and zero ones.
cached (side, file, page_index, digest) AS (
  SELECT 1, g.file, g.page_index, s.digest
    FROM stored_page s CROSS JOIN guest_page(:snapshot) g ON g.pfn = s.pfn
   WHERE s.snapshot = :snapshot AND g.class = 'file'
  UNION ALL
  SELECT 2, g.file, g.page_index, s.digest
    FROM stored_page s CROSS JOIN guest_page(:other) g ON g.pfn = s.pfn
   WHERE s.snapshot = :other AND g.class = 'file'
  UNION ALL
  SELECT 1, g.file, g.page_index, ''
    FROM guest_page(:snapshot) g
   WHERE g.class = 'file'
     AND g.pfn NOT IN (SELECT pfn FROM stored_page WHERE snapshot = :snapshot)
  UNION ALL
  SELECT 2, g.file, g.page_index, ''
    FROM guest_page(:other) g
   WHERE g.class = 'file' AND g.pfn NOT IN (SELECT pfn FROM stored_page WHERE snapshot = :other)
),
changed (file, page_index) AS (
  SELECT file, page_index FROM cached
   GROUP BY file, page_index
  -- Two files may have one path, as a deleted one and its successor: those are left out.
  HAVING count(*) = 2 AND min(side) < max(side) AND min(digest) < max(digest)
)
SELECT file, count(*) AS pages FROM changed GROUP BY file ORDER BY pages DESC, file;
