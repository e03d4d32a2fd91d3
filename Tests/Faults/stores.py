"""The prepared stores that every case gets a fresh copy of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import struct
import time
from pathlib import Path

import guests
import sources
from tool import SECONDS_MAX, Result, Tool

# What a folder of a case may hold after a command that cleaned up.
STORE_FILES = {"s.db", "s.db-journal", "s.db-lock"}
# Another store, which each case finds beside its own: it has c/1.
OTHER_STORE_FILES = {"o.db", "o.db-journal", "o.db-lock"}

# Image files that each case finds in its folder.
IMAGES = {
    "a1.ram": guests.image("a", 72, 1),
    "a2.ram": guests.image("a", 72, 2),
    "a3.ram": guests.image("a", 72, 3),
    "b1.ram": guests.image("b", 56, 1),
    "c1.ram": guests.image("c", 60, 1),
    "d1.ram": guests.image("d", 64, 1),
    "n1.ram": guests.image("n", 80, 1),
}
STREAM, IMAGES["p1.ram"] = sources.qemu_stream("p")
CORE, IMAGES["e1.ram"] = sources.elf_core("e")
OTHER_FILES = {
    "p1.stream": STREAM,
    "e1.elf": CORE,
    "overlays.json": guests.overlays_document(56),
    "msrs.json": b'{"msrs": {"0x40000000": "0x8100060100000000", "0x40000001": "0x4001"}}',
}


def must(result: Result, what: str) -> Result:
    """That a command without a fault works is a condition of all tests."""
    if result.code != 0 or result.timed_out:
        raise RuntimeError(f"without a fault, {what} fails: {result.line}")
    return result


def _wait_for_unfinished(store: Path) -> bool:
    """Waits for an unfinished snapshot in the file, and says whether it came."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(store, timeout=SECONDS_MAX)) as database:
            query = "SELECT count(*) FROM snapshot WHERE state = 'writing'"
            if database.execute(query).fetchone()[0]:
                return True
        time.sleep(0.05)
    return False


class Stores:
    """Makes the prepared stores in `home`, and copies of them.

    `main` has a/1, its child a/2 and, with overlays, b/1. `dirty` has the same, and what a killed
    save and a deletion beside a reader leave. `empty` has no store.
    """

    def __init__(self, home: Path):
        self.home = home
        self.golden: dict[str, bytes] = {}

    def prepare(self, tool: Tool) -> None:
        """Builds them with the binary under test."""
        main = self.home / "main"
        main.mkdir(parents=True)
        for name, data in (IMAGES | OTHER_FILES).items():
            (self.home / name).write_bytes(data)
        (self.home / "empty").mkdir()
        line = ["save", "c1.ram", "--vm", "c", "--name", "c/1", "--store", "o.db"]
        must(tool.run(line, self.home), "save")
        self._link_inputs(main)
        for arguments in (
            ["save", "a1.ram", "--vm", "a", "--name", "a/1"],
            ["save", "a2.ram", "--vm", "a", "--name", "a/2", "--tag", "keep=yes"],
            ["save", "b1.ram", "--vm", "b", "--name", "b/1", "--overlays", "overlays.json"],
        ):
            must(tool.run(arguments, main), arguments[1])
        for name, file in (("a/1", "a1.ram"), ("a/2", "a2.ram"), ("b/1", "b1.ram")):
            bare = must(tool.run(["restore", name, "-o", "-", "--overlays", "omit"], main), name)
            if bare.out != IMAGES[file]:
                raise RuntimeError(f"without a fault, {name} restores to other bytes")
            self.golden[name] = must(tool.run(["restore", name, "-o", "-"], main), name).out
        self.golden["n/1"] = IMAGES["n1.ram"]
        dirty = self.home / "dirty"
        shutil.copytree(main, dirty, copy_function=os.link)
        for name in STORE_FILES:
            (dirty / name).unlink(missing_ok=True)
            if (main / name).exists():
                shutil.copy2(main / name, dirty / name)
        self._dirty(tool, dirty)

    def _dirty(self, tool: Tool, folder: Path) -> None:
        must(tool.run(["save", "d1.ram", "--vm", "d", "--name", "d/1"], folder), "save")
        # A reader's lock, so that the deletion leaves the chunks to a gc.
        lock = os.open(folder / "s.db-lock", os.O_RDWR)
        fcntl.fcntl(lock, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0))
        must(tool.run(["delete", "d/1"], folder), "delete")
        os.close(lock)
        # A save whose source pauses, so that it commits what it has; then it is killed.
        read_end, write_end = os.pipe()
        running = tool.start(["save", "-", "--vm", "c", "--name", "c/dead"], folder, read_end)
        os.close(read_end)
        # More than the 256 pages that are read at once.
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(IMAGES["c1.ram"] * 5)
            pipe.flush()
            unfinished = _wait_for_unfinished(folder / "s.db")
            running.kill()
        running.finish()
        if not unfinished:
            raise RuntimeError("a killed save leaves nothing: the store that gc is tested on is clean")

    def _copy_from(self, source: Path, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._link_inputs(folder)
        for file in STORE_FILES:
            if (source / file).exists():
                shutil.copyfile(source / file, folder / file)
                os.chmod(folder / file, 0o600)
        for file in OTHER_STORE_FILES:
            if (self.home / file).exists():
                shutil.copyfile(self.home / file, folder / file)
                os.chmod(folder / file, 0o600)

    def _link_inputs(self, folder: Path) -> None:
        for name in IMAGES | OTHER_FILES:
            os.link(self.home / name, folder / name)

    def copy(self, name: str, folder: Path) -> None:
        """Makes `folder` a fresh copy of the store `name` and the inputs."""
        self._copy_from(self.home / name, folder)

    def is_untouched(self, name: str, folder: Path) -> bool:
        """Whether the store in `folder` is as it was copied, so that what is known of it holds."""
        for file in STORE_FILES - {"s.db-lock"}:
            made, base = folder / file, self.home / name / file
            if made.exists() != base.exists():
                return False
            if made.exists() and made.read_bytes() != base.read_bytes():
                return False
        return True
