"""Stores that somebody made to be slow or large to read, for the part `rows`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

# Each is small in the file, or nearly, and all commands must still end in time and in little memory.
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
STATEMENTS = {
    "many-runs": (
        f"{_NUMBERS.format(count=100_000)} INSERT INTO page_index_run"
        " (state, entry_count, filter_lines, fences)"
        " SELECT 'active', entry_count, filter_lines, fences FROM n, (SELECT * FROM page_index_run"
        " LIMIT 1)",
    ),
    "many-snapshots": (
        f"{_NUMBERS.format(count=100_000)} INSERT INTO snapshot ({{columns}})"
        " SELECT {values} FROM n, (SELECT * FROM snapshot LIMIT 1)",
    ),
    "huge-vm": ("UPDATE snapshot SET vm = printf('%.*c', 200000000, 'v') WHERE id = 1",),
    "huge-tag": (
        "INSERT INTO snapshot_tag VALUES (1, 'huge', printf('%.*c', 200000000, 'v'))",
    ),
    "huge-digests": ("UPDATE chunk SET digests = zeroblob(300000000) WHERE id = 1",),
    "huge-chunk": ("UPDATE chunk_data SET data = zeroblob(300000000) WHERE chunk_id = 1",),
    "huge-fences": ("UPDATE page_index_run SET fences = zeroblob(300000000) WHERE id = 1",),
    "huge-ram": (
        "UPDATE snapshot SET ram_bytes = 4503599627366400 WHERE id = 1",
        "UPDATE memory_region SET bytes = 4503599627366400 WHERE snapshot_id = 1",
    ),
    "huge-overlay": (
        "UPDATE overlay SET parameters = json_object('variant', printf('%.*c', 100000000, 'v'))",
    ),
    "many-tags": (
        f"{_NUMBERS.format(count=200_000)} INSERT INTO snapshot_tag SELECT 1, 'k' || i, 'v' FROM n",
    ),
    "many-regions": (
        f"{_NUMBERS.format(count=200_000)} INSERT INTO memory_region"
        " SELECT 1, i * 1073741824, 4096, i * 4096, 'r' FROM n",
    ),
    "endless-view": (
        "DROP VIEW snapshot_summary",
        "CREATE VIEW snapshot_summary AS WITH RECURSIVE n(i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS name FROM n",
    ),
    "parent-circle": (
        "UPDATE snapshot SET parent_id = 2 WHERE id = 1",
        "UPDATE snapshot SET parent_id = 1 WHERE id = 2",
    ),
}


def make(path: Path, name: str) -> None:
    """Makes the store at `path` such a one.

    Another process does, because the memory that a process has had counts as its children's peak.
    """
    subprocess.run([sys.executable, __file__, path, name], check=True)


def _make(path: str, name: str) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA foreign_keys=OFF")
    database.execute("PRAGMA ignore_check_constraints=ON")
    for statement in STATEMENTS[name]:
        if name == "many-snapshots":
            rows = database.execute("PRAGMA table_info(snapshot)").fetchall()
            columns = [row[1] for row in rows if row[1] != "id"]
            unique = {"uuid": "printf('%036d', i)", "name": "'s/' || i"}
            values = ", ".join(unique.get(column, column) for column in columns)
            statement = statement.format(columns=", ".join(columns), values=values)
        database.execute(statement)
    database.commit()
    database.close()


if __name__ == "__main__":
    _make(*sys.argv[1:])
