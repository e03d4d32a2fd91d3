"""Measures how the work grows with the guest and with the store. Prints Markdown tables.

Guests of 4 to 64 GiB, an eighth of each touched, with a real guest's pages and a number mixed into each, so that
nothing is equal by chance; then the same guest with 1 % of those pages changed. What comes out of the largest is
compared through a hash. And stores of up to 100,000 snapshots of a small guest: 5,000 are saved, the others are copies
of their rows under names of their own, which `verify` would not believe: an extent's checksum counts its snapshot in.

Usage: large.py VMCKPT IMAGE WORK RUNS SIZE
IMAGE is a real guest's RAM, WORK is for scratch (30 GB; SIZE "small": 2 GB, smaller guests and stores).
"""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
import uuid

from limits import fresh, table

PAGE = 4096
GIB = 1 << 30
TOUCHED_SHARE = 8
RUN_PAGES = 512


class Tool:
    """vmckpt on one store."""

    def __init__(self, binary, store):
        self.binary, self.store = binary, store

    def run(self, *arguments, output=subprocess.DEVNULL):
        """Runs a command that must succeed; returns (seconds, peak bytes, processor seconds)."""
        start = time.perf_counter()
        process = subprocess.Popen(
            [self.binary, *arguments, "--store", self.store], stdout=output, stderr=subprocess.PIPE
        )
        error = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"large: vmckpt {' '.join(arguments)} failed: {error.decode()}")
        taken = time.perf_counter() - start
        return taken, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


# MARK: Large guests


def real_pages(image):
    pages = []
    with open(image, "rb") as file:
        while len(pages) < 65536 and (page := file.read(PAGE)):
            if page.count(0) < PAGE:
                pages.append(page)
    return pages


def touched_runs(size):
    """The first pages of the runs of 2 MiB that are touched."""
    generator = random.Random(7)
    return [
        start + generator.randrange(TOUCHED_SHARE) * RUN_PAGES
        for start in range(0, size // PAGE, RUN_PAGES * TOUCHED_SHARE)
    ]


def make_guest(path, size, image):
    """A sparse file."""
    pages, number = real_pages(image), 0
    with open(path, "wb") as file:
        file.truncate(size)
        for first in touched_runs(size):
            block = bytearray()
            for _ in range(RUN_PAGES):
                page = pages[number % len(pages)]
                number += 1
                block += page[:64] + number.to_bytes(8, "little") + page[72:]
            file.seek(first * PAGE)
            file.write(block)


def change_guest(path, touched):
    generator = random.Random(8)
    with open(path, "r+b") as file:
        for _ in range(len(touched) * RUN_PAGES // 100):
            pfn = generator.choice(touched) + generator.randrange(RUN_PAGES)
            file.seek(pfn * PAGE + 128)
            file.write(generator.randbytes(16))


def sha256_of_file(path):
    """Without a look at holes, which would push the rest out of the kernel's cache."""
    digest, zeros = hashlib.sha256(), bytes(1 << 22)
    with open(path, "rb") as file:
        size, offset = os.path.getsize(path), 0
        while offset < size:
            try:
                data = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                data = size
            while offset < data:
                digest.update(zeros[: min(len(zeros), data - offset)])
                offset += min(len(zeros), data - offset)
            end = os.lseek(file.fileno(), data, os.SEEK_HOLE) if data < size else size
            file.seek(offset)
            while offset < end:
                block = file.read(min(1 << 22, end - offset))
                digest.update(block)
                offset += len(block)
    return digest.hexdigest()


def sha256_of_output(command):
    digest = hashlib.sha256()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while block := process.stdout.read(1 << 22):
        digest.update(block)
    if process.wait() != 0:
        sys.exit(f"large: {' '.join(command)} failed")
    return digest.hexdigest()


def guests(binary, image, work, sizes):
    seconds, processors, peaks, facts = {}, {}, {}, []
    for size in sizes:
        tool = Tool(binary, fresh(work))
        ram, out = f"{work}/ram", f"{work}/out.ram"
        # In a process of its own: the kernel counts a parent's memory as its child's until exec.
        subprocess.run([sys.executable, __file__, "make", ram, str(size), image], check=True)
        touched = touched_runs(size)
        gib = len(touched) * RUN_PAGES * PAGE / GIB

        def step(title, *command, tool=tool):
            os.sync()
            taken, peak, processor = tool.run(*command)
            processors.setdefault(title, []).append(processor)
            seconds.setdefault(title, []).append(taken)
            peaks.setdefault(title, []).append(peak)

        step("first save", "save", ram, "--name", "a", "--vm", "v")
        hash_of_first = sha256_of_file(ram) if size == sizes[-1] else None
        change_guest(ram, touched)
        step("next save, 1 % changed", "save", ram, "--name", "b", "--vm", "v")
        step("next save, same", "save", ram, "--name", "c", "--vm", "v")
        step("restore", "restore", "a", "-o", out)
        os.unlink(out)
        os.unlink(ram)
        if hash_of_first:
            streamed = [binary, "restore", "a", "-o", "-", "--store", tool.store, "--no-progress"]
            if sha256_of_output(streamed) != hash_of_first:
                sys.exit("large: what was restored differs")
        for title, command in (
            ("verify", ("verify",)),
            ("list", ("list",)),
            ("show", ("show", "b")),
            ("diff", ("diff", "a", "b")),
            ("map", ("map", "b", "-o", f"{work}/map.html")),
            ("delete", ("delete", "a")),
            ("gc", ("gc",)),
        ):
            step(title, *command)
        database = sqlite3.connect(tool.store)
        count = database.execute(
            "SELECT count(*) FROM ram_extent WHERE snapshot_id = (SELECT id FROM snapshot WHERE"
            " name = 'b')"
        ).fetchone()[0]
        index = database.execute(
            "SELECT sum(length(entries)) FROM page_index_block"
        ).fetchone()[0] + database.execute(
            "SELECT sum(length(bits)) FROM page_index_filter"
        ).fetchone()[0]
        database.close()
        facts.append((gib, count, index, os.path.getsize(tool.store)))
    shutil.rmtree(work)
    header = [f"{size / GIB:g} GiB, {fact[0]:g} GiB touched" for size, fact in zip(sizes, facts)]
    for what, measured in (("Seconds", seconds), ("Processor seconds", processors)):
        print(f"{what}, and for each GiB touched.\n")
        table(["step", *header], [
            [title] + [f"{value:.2f} s ({value / fact[0]:.2f})" for value, fact in zip(values, facts)]
            for title, values in measured.items()
        ])
    print("Peak resident memory.\n")
    table(["step", *header], [
        [title] + [f"{value / 2**20:.0f} MiB" for value in values]
        for title, values in peaks.items()
    ])
    print("The store at the end.\n")
    table(["", *header], [
        ["extents of the second snapshot"] + [f"{fact[1]:,}" for fact in facts],
        ["pages in one"] + [f"{fact[0] * GIB / PAGE / fact[1]:.1f}" for fact in facts],
        ["index"] + [f"{fact[2] / 1e6:.1f} MB" for fact in facts],
        ["store"] + [f"{fact[3] / 1e6:.0f} MB" for fact in facts],
    ])


# MARK: Many snapshots

SNAPSHOT_COPY = """
INSERT INTO snapshot (uuid, name, vm, parent_id, state, started_at, completed_at, source, producer,
    guest_os_id, cpu_vendor, tsc_frequency_hz, ram_bytes, stored_pages, ram_checksum, new_pages,
    new_stored_bytes, ram_digest, digest)
  SELECT ?, ?, ?, NULL, state, started_at, completed_at, source, producer,
    guest_os_id, cpu_vendor, tsc_frequency_hz, ram_bytes, stored_pages, ram_checksum, 0, 0, ram_digest, digest
    FROM snapshot WHERE id = ?
"""
REGION_COPY = """
INSERT INTO memory_region SELECT ?, gpa, bytes, file_offset, name FROM memory_region
  WHERE snapshot_id = ?
"""
EXTENT_COPY = """
INSERT INTO ram_extent SELECT ?, first_pfn, page_count, chunk_id, first_slot, checksum
  FROM ram_extent WHERE snapshot_id = ?
"""


def save_small_guests(tool, work, count):
    """Saves of a guest of 1 MiB that changes a little from one to the next; returns its file."""
    source, pages = f"{work}/ram", 256
    generator = random.Random(1)
    with open(source, "wb") as file:
        for index in range(pages):
            file.write((generator.randbytes(8) if index % 3 else b"").ljust(PAGE, b"\0"))
    with open(source, "r+b") as file:
        for number in range(count):
            for _ in range(5):
                file.seek(generator.randrange(pages) * PAGE)
                file.write(generator.randbytes(8))
            file.flush()
            tool.run("save", source, "--name", f"s{number}", "--vm", f"vm-{number % 100}")
    return source


def copy_rows(store, have, want):
    database = sqlite3.connect(store)
    originals = [row[0] for row in database.execute("SELECT id FROM snapshot ORDER BY id LIMIT 5000")]
    with database:
        for number in range(have, want):
            original = originals[number % len(originals)]
            cursor = database.execute(
                SNAPSHOT_COPY,
                (str(uuid.uuid4()), f"s{number}", f"vm-{number % 100}", original),
            )
            database.execute(REGION_COPY, (cursor.lastrowid, original))
            database.execute(EXTENT_COPY, (cursor.lastrowid, original))
    database.close()


def stores(binary, work, runs, counts):
    tool = Tool(binary, fresh(work))
    source = save_small_guests(tool, work, counts[0])
    have = counts[0]
    times, sizes = {}, []
    for want in counts:
        copy_rows(tool.store, have, want)
        have = want
        sizes.append(os.path.getsize(tool.store))
        commands = [
            ("save", lambda run: ("save", source, "--name", f"n{want}-{run}", "--vm", "vm-3")),
            ("list", lambda run: ("list",)),
            ("list --json", lambda run: ("list", "--json")),
            ("list --vm", lambda run: ("list", "--vm", "vm-3")),
            ("show NAME", lambda run: ("show", "s50")),
            ("show latest", lambda run: ("show", "latest")),
            ("status", lambda run: ("status",)),
            ("diff", lambda run: ("diff", "s1", "s101")),
            ("restore", lambda run: ("restore", f"s{run}", "-o", f"{work}/out-{want}-{run}")),
            ("prune --dry-run", lambda run: ("prune", "--keep-last", "5", "--dry-run")),
            ("delete", lambda run: ("delete", f"n{want}-{run}")),
            ("gc, nothing to free", lambda run: ("gc",)),
        ]
        for title, command in commands:
            values = [tool.run(*command(run))[0] for run in range(runs)]
            times.setdefault(title, []).append(statistics.median(values))
    print(f"Seconds in stores of many snapshots of a guest of 1 MiB, the program's start included;"
          f" medians of {runs}.\n")
    taken, peak, _ = tool.run("prune", "--keep-last", "5")
    rows = [[title] + [f"{value:.3f}" for value in values] for title, values in times.items()]
    rows.append(["size of the store"] + [f"{size / 1e6:.0f} MB" for size in sizes])
    table(["command", *(f"{count:,}" for count in counts)], rows)
    print(f"`prune --keep-last 5` of {have:,} snapshots took {taken:.1f} s and"
          f" {peak / 2**20:.0f} MiB.\n")
    listed = json.loads(subprocess.run(
        [binary, "list", "--json", "--store", tool.store], stdout=subprocess.PIPE, check=True
    ).stdout)
    left = len(listed["snapshots"] if isinstance(listed, dict) else listed)
    if left != 5 * 100:
        sys.exit(f"large: prune left {left} snapshots")
    shutil.rmtree(work)


def main():
    if sys.argv[1] == "make":
        return make_guest(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    binary, image, work, runs, size = sys.argv[1:4] + [int(sys.argv[4]), sys.argv[5]]
    small = size == "small"
    scratch = f"{work}/large"
    guests(binary, image, scratch, [GIB, 2 * GIB] if small else [n * GIB for n in (4, 16, 64)])
    stores(binary, scratch, runs, [300, 1000] if small else [5000, 20_000, 50_000, 100_000])


if __name__ == "__main__":
    main()
