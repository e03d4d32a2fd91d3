"""Part `rows`: edited rows and schemas, as somebody may make them with the sqlite3 shell."""

from __future__ import annotations

import random
import re
import sqlite3
from pathlib import Path

import hostile
from damage import examine
from harness import Outcome, Plan, Worker

_INTEGERS = (0, 1, -1, 15, 16, 17, 255, 4096, 2**31, 2**32, 2**40, 2**52, 2**62, 2**63 - 1, -(2**63))

_WEIGHTS = {"ram_extent": 6, "memory_region": 4, "chunk": 4, "chunk_data": 2, "snapshot": 4,
            "overlay": 3}


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Stores that were made to be slow, and numbers of edits."""
    edits = [f"edit {index}" for index in range(plan.pick(120, 1500, 10_000))]
    return [f"hostile {name}" for name in hostile.STATEMENTS] + edits


def run(case: str, worker: Worker) -> Outcome:
    """Makes one edit and looks at the store."""
    source = random.Random(f"{worker.seed} {case}")
    worker.stores.copy("main" if source.random() < 0.8 else "dirty", worker.folder)
    kind, name = case.split()
    if kind == "hostile":
        hostile.make(worker.folder / "s.db", name)
        failures = examine(worker, source, readers=6, writers=3)
        return Outcome(case, [f"{name}: {failure}" for failure in failures])
    edit = Editor(worker.folder / "s.db", source)
    what = ""
    while not what:
        what = edit.schema() if source.random() < 0.15 else edit.rows()
    writers = 1 if source.random() < 0.4 else 0
    failures = examine(worker, source, 2, writers, renamed=edit.renamed)
    return Outcome(case, [f"{what}: {failure}" for failure in failures])


class Editor:
    """Changes a store past all of its constraints."""

    def __init__(self, path: Path, source: random.Random):
        self.path, self.source = path, source
        self.renamed = False

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, isolation_level=None)
        for pragma in ("foreign_keys=OFF", "ignore_check_constraints=ON", "writable_schema=ON"):
            database.execute(f"PRAGMA {pragma}")
        return database

    def rows(self) -> str:
        """Edits values or rows; the schema is as it was afterwards. Returns what was done."""
        database = self._open()
        schema = database.execute(
            "SELECT rowid, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL"
        ).fetchall()
        # Without STRICT and NOT NULL any value goes into any column. Keys stay as they are.
        for rowid, sql in schema:
            loose = sql.replace(") STRICT, WITHOUT ROWID", ") WITHOUT ROWID")
            loose = loose.replace(") STRICT", ")")
            lines = [
                line if "PRIMARY KEY" in line else re.sub("(?<!IS )NOT NULL", "", line)
                for line in loose.splitlines()
            ]
            database.execute(
                "UPDATE sqlite_schema SET sql = ? WHERE rowid = ?", ("\n".join(lines), rowid)
            )
        version = database.execute("PRAGMA schema_version").fetchone()[0]
        database.execute(f"PRAGMA schema_version = {version + 1}")
        database.close()
        database = self._open()
        what = ""
        for _ in range(20):
            try:
                what = self._edit(database)
                break
            except (sqlite3.Error, OverflowError):
                continue
        for rowid, sql in schema:
            database.execute("UPDATE sqlite_schema SET sql = ? WHERE rowid = ?", (sql, rowid))
        database.execute(f"PRAGMA schema_version = {version}")
        database.close()
        return what

    def _edit(self, database: sqlite3.Connection) -> str:
        source = self.source
        tables = [
            name
            for (name,) in database.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL"
                " AND name NOT LIKE 'sqlite_stat%' ORDER BY name"
            )
            if database.execute(f"SELECT EXISTS (SELECT 1 FROM {name})").fetchone()[0]
        ]
        # The tables that a restore reads come more often than others.
        weights = [_WEIGHTS.get(name, 1) for name in tables]
        table = source.choices(tables, weights)[0]
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        rows = database.execute(f"SELECT * FROM {table}").fetchall()
        row = source.choice(rows)
        where = " AND ".join(f"{column} IS ?" for column in columns)
        way = source.choice(("value",) * 8 + ("delete", "swap", "copy", "key"))
        if way == "delete":
            database.execute(f"DELETE FROM {table} WHERE {where}", row)
            return f"deleted a row of {table}"
        column = source.randrange(len(columns))
        name = columns[column]
        if table == "snapshot" and name in ("id", "uuid", "name"):
            self.renamed = True
        if way == "copy" and len(rows) > 1:
            self.renamed = self.renamed or table == "snapshot"
            value = source.choice(rows)[column]
            what = "the value of another row"
        elif way == "swap" and len(rows) > 1:
            return self._swap(database, table, columns, rows, where)
        elif way == "key" and name.endswith("id") and isinstance(row[column], int):
            value = row[column] + source.choice((-1, 1, 2, 1000))
            what = f"{value}"
        else:
            value = self._other(row[column])
            what = repr(value)[:40]
        database.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", (value, *row))
        return f"{table}.{name} = {what} (was {repr(row[column])[:30]})"

    def _swap(self, database, table: str, columns: list[str], rows: list, where: str) -> str:
        """Gives two rows each other's values but for the first column."""
        first, second = self.source.sample(rows, 2)
        kept = 2 if table in ("ram_extent", "overlay", "device_state", "memory_region") else 1
        changed = columns[kept:]
        if table == "snapshot":
            self.renamed = True
        if not changed:
            raise sqlite3.Error("nothing to swap")
        sets = ", ".join(f"{column} = ?" for column in changed)
        if any(column in ("uuid", "name") for column in changed):
            database.execute(f"DELETE FROM {table} WHERE {where}", second)
            database.execute(f"UPDATE {table} SET {sets} WHERE {where}", (*second[kept:], *first))
            marks = ", ".join("?" * len(columns))
            values = (*second[:kept], *first[kept:])
            database.execute(f"INSERT INTO {table} VALUES ({marks})", values)
            return f"swapped two rows of {table}"
        database.execute(f"UPDATE {table} SET {sets} WHERE {where}", (*second[kept:], *first))
        database.execute(f"UPDATE {table} SET {sets} WHERE {where}", (*first[kept:], *second))
        return f"swapped two rows of {table}"

    def _other(self, value: object) -> object:
        """Another value: next to it, of another type, huge, or nothing."""
        source = self.source
        if source.random() < 0.15:
            return source.choice((None, "", b"", 1.5, "text", b"\0" * 32, 7))
        if isinstance(value, int):
            if source.random() < 0.5:
                return max(-(2**63), min(2**63 - 1, value + source.choice((-4096, -1, 1, 4096))))
            return source.choice(_INTEGERS)
        if isinstance(value, bytes) and value:
            return self._other_bytes(bytearray(value))
        if isinstance(value, str) and value:
            at = source.randrange(len(value))
            made = chr(source.choice((0, 0x27, 0x2F, 0x301, 0x41, 0x202E)))
            return source.choice(
                (value[:at] + made + value[at + 1 :], value + "x", value[:at], value * 50_000)
            )
        return source.choice((1, "text", b"bytes", 2**63 - 1))

    def _other_bytes(self, value: bytearray) -> bytes:
        source = self.source
        way = source.randrange(5)
        at = source.randrange(len(value))
        if way < 2:
            value[at] ^= 1 << source.randrange(8)
        elif way == 2:
            del value[at:]
        elif way == 3:
            value += source.randbytes(source.choice((1, 8, 16, 32, 4096, 200_000)))
        else:
            size = min(len(value) - at, source.choice((1, 4, 8, 32)))
            value[at : at + size] = source.randbytes(size)
        return bytes(value)

    def schema(self) -> str:
        """Edits the schema or the header's numbers. Returns what was done."""
        source = self.source
        database = self._open()
        objects = database.execute(
            "SELECT rowid, type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
        ).fetchall()
        rowid, kind, name, sql = source.choice(objects)
        way = source.randrange(8)
        try:
            if way == 0:
                pragma = source.choice(("user_version", "application_id", "schema_version"))
                number = source.choice((0, 1, 2, 3, 99, -1, 2**31 - 1))
                database.execute(f"PRAGMA {pragma} = {number}")
                what = f"{pragma} = {number}"
            elif way == 1:
                database.execute(f"DROP {kind} IF EXISTS {name}")
                what = f"dropped {kind} {name}"
            elif way == 2:
                other = source.choice(objects)[0]
                database.execute(
                    "UPDATE sqlite_schema SET rootpage ="
                    " (SELECT rootpage FROM sqlite_schema WHERE rowid = ?) WHERE rowid = ?",
                    (other, rowid),
                )
                what = f"the root of {name} is another's"
            elif way == 3:
                database.execute("DELETE FROM sqlite_schema WHERE rowid = ?", (rowid,))
                what = f"{kind} {name} is not in the schema"
            elif way == 4:
                table = source.choice(("snapshot", "chunk", "ram_extent", "snapshot_tag"))
                event = source.choice(("INSERT", "UPDATE", "DELETE"))
                database.execute(
                    f"CREATE TRIGGER stranger AFTER {event} ON {table} BEGIN"
                    " DELETE FROM chunk_data; END"
                )
                what = f"a trigger on {event} of {table}"
            elif way == 5:
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({name})")]
                database.execute(f"ALTER TABLE {name} RENAME {source.choice(columns)} TO other")
                what = f"a column of {name} is renamed"
            else:
                at = source.randrange(len(sql))
                edited = sql[:at] + source.choice(("", ")", "x", "'", " NOT ")) + sql[at + 1 :]
                database.execute(
                    "UPDATE sqlite_schema SET sql = ? WHERE rowid = ?", (edited, rowid)
                )
                what = f"the schema's text of {name} is edited at {at}"
        except (sqlite3.Error, IndexError):
            what = ""
        database.close()
        return what
