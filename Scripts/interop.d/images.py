"""The images that the readers get, made by `vmckpt`, and those that others make for `vmckpt`."""

from __future__ import annotations

import json
from pathlib import Path

from guest import MEMORY_MIB
from table import require, run

PAGE = 4096
PAGE_COUNT = (MEMORY_MIB << 20) // PAGE


class Tool:
    """`vmckpt` with a store of its own."""

    def __init__(self, binary: Path, store: Path, place: Path) -> None:
        self.binary = binary
        self.store = store
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        # The row's reader where the tool itself reads what others have written.
        self.name = ("vmckpt", run([binary, "--version"]).split()[-1])

    def run(self, *arguments: object) -> str:
        """Standard output of a command that has to succeed."""
        words = [self.binary, *arguments, "--store", self.store, "--no-progress"]
        return run(words, timeout=600)

    def save(self, source: object, name: str, *options: str) -> None:
        """Saves a snapshot."""
        self.run("save", source, "--name", name, *options)

    def restore(self, name: str, form: str, *options: str) -> Path:
        """The path of a snapshot, restored in a format; made once."""
        path = self.place / f"{name}.{form}"
        if not path.exists():
            self.run("restore", name, "--format", form, "-o", path, *options)
        return path

    def convert(self, source: Path, form: str) -> Path:
        """The path of a file that was converted without a store."""
        path = self.place / f"{source.name}.converted.{form}"
        # No store: the option would be refused.
        words = [self.binary, "convert", source, "-o", path, "--format", form, "--no-progress"]
        run(words, timeout=600)
        return path

    def show(self, name: str) -> dict[str, object]:
        """What `show --json` says."""
        return json.loads(self.run("show", name, "--json"))

    def require_same_ram(self, name: str, other: str) -> str:
        """Compares the main RAM of two snapshots; returns what the table says.

        QEMU's dumps leave out what a device hides: the RAM beneath the window of VGA.
        """
        (left, known), (right, _) = self.ram(name), self.ram(other)
        require(len(known) > 0.95 * PAGE_COUNT, f"it has {len(known)} pages only")
        different = [page for page in known if page_of(left, page) != page_of(right, page)]
        require(not different, f"{len(different)} pages are different")
        return f"{len(known)} pages equal"

    def ram(self, name: str) -> tuple[bytes, list[int]]:
        """The main RAM of a snapshot by guest addresses, and which pages of it are known."""
        shown = self.show(name)
        flat = self.restore(name, "raw").read_bytes()
        ram = bytearray(PAGE_COUNT * PAGE)
        known: list[int] = []
        for region in shown["memory_regions"]:
            start, offset = region["gpa"], region["file_offset"]
            count = min(region["bytes"], len(ram) - start)
            # Above RAM there may be ROM.
            if count > 0:
                ram[start : start + count] = flat[offset : offset + count]
                known += range(start // PAGE, (start + count) // PAGE)
        return bytes(ram), known

    def absent_count(self, name: str) -> int:
        """How many pages a snapshot records as left out of its source."""
        return int(str(self.show(name)["absent_pages"]))


def page_of(ram: bytes, page: int) -> bytes:
    """A page's bytes."""
    return ram[page * PAGE : (page + 1) * PAGE]


def first_bytes(path: Path, byte_count: int) -> bytes:
    """The first bytes of a file, which has to have as many."""
    with path.open("rb") as file:
        data = file.read(byte_count)
    require(len(data) == byte_count, f"{path.name} has {len(data)} of {byte_count} bytes")
    return data


def require_same(left: bytes, right: bytes) -> str:
    """Compares RAM byte for byte; returns what the table says."""
    different = [page for page in range(PAGE_COUNT) if page_of(left, page) != page_of(right, page)]
    require(len(left) == len(right) and not different, f"{len(different)} pages are different")
    return f"all {PAGE_COUNT} pages equal"


def require_filtered(filtered: tuple[bytes, list[int]], whole: bytes, absent_count: int) -> str:
    """Checks RAM that a filter has thinned out: each page is as it was, or left out.

    What is absent is restored as zeros. Pages that have become zeros can be no more than those that
    are recorded as absent, or are outside of all regions.
    """
    ram, known = filtered
    absent_count += PAGE_COUNT - len(known)
    lost = kept = 0
    for page in range(PAGE_COUNT):
        original = page_of(whole, page)
        if page_of(ram, page) == original:
            kept += original != bytes(PAGE)
            continue
        require(page_of(ram, page) == bytes(PAGE), f"page {page:#x} is another")
        lost += 1
    require(lost <= absent_count, f"{lost} pages are gone, {absent_count} are recorded")
    require(kept > 1000 and lost > 0, f"kept {kept} pages, lost {lost}")
    return f"{kept} pages equal, {absent_count} recorded as absent"
