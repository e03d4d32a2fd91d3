"""Measures what the article Performance states beside speed: memory, bytes written, readers that
wait, and listing a store of 1,000 snapshots. Prints Markdown tables.

Usage: limits.py VMCKPT IMAGES WORK RUNS
IMAGES has moment-1.ram, moment-2.ram, moment-3.ram and boot2-moment-1.ram; WORK is for scratch.
"""

import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

PAGE = 4096
SNAPSHOTS = 1000


class Tool:
    """vmckpt on one store."""

    def __init__(self, binary, store):
        self.binary, self.store = binary, store

    def run(self, *arguments):
        """Runs a command that must succeed; returns (seconds, rusage)."""
        start = time.perf_counter()
        process = subprocess.Popen(
            [self.binary, *arguments, "--store", self.store], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"limits: vmckpt {' '.join(arguments)} failed")
        return time.perf_counter() - start, usage

    def size(self):
        return os.path.getsize(self.store) if os.path.exists(self.store) else 0


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    print("\n".join(lines) + "\n", flush=True)


def fresh(work):
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work)
    return os.path.join(work, "s.db")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def disk_written(work):
    """Bytes that the disk with `work` has written, for any process.

    What the kernel counts for a process is larger: where its cache has folios of 64 KiB, it counts a
    whole one for each 4 KiB that change in it, and writes the 4 KiB.
    """
    device = os.stat(work).st_dev
    path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
    try:
        with open(path) as file:
            return int(file.read().split()[6]) * 512
    except FileNotFoundError:
        sys.exit(f"limits: the kernel does not count what is written to {work}")


def written(binary, images, work):
    """Bytes written to disk by saves, each with the sync after it."""
    tool = Tool(binary, fresh(work))
    rows, before = [], 0
    for name in ("moment-1", "moment-2", "moment-3", "boot2-moment-1"):
        os.sync()
        start = disk_written(work)
        tool.run("save", f"{images}/{name}.ram", "--name", name, "--vm", "bench")
        os.sync()
        count = disk_written(work) - start
        grown = tool.size() - before
        before = tool.size()
        rows.append(
            [name, f"{count / 1e6:.1f} MB", f"{grown / 1e6:.1f} MB", f"{count / grown:.2f}"]
        )
    print("Bytes written by saves one after another, and by how much the store grew.\n")
    table(["image", "written", "grown", "ratio"], rows)


class Poller(threading.Thread):
    """Asks a store every millisecond through Python's sqlite3, as a user's program would."""

    def __init__(self, store, reconnects):
        super().__init__()
        self.store, self.reconnects = store, reconnects
        self.waits, self.errors, self.ends = [], [], False

    def connect(self):
        return sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=20)

    def run(self):
        connection = self.connect()
        while not self.ends:
            start = time.perf_counter()
            try:
                if self.reconnects:
                    connection.close()
                    connection = self.connect()
                connection.execute("SELECT name, tags FROM snapshot_summary").fetchall()
            except sqlite3.Error as error:
                self.errors.append(str(error))
            self.waits.append(time.perf_counter() - start)
            time.sleep(0.001)
        connection.close()


def readers(binary, images, work, runs):
    rows = []
    for reconnects in (False, True):
        waits, errors = [], []
        for _ in range(runs):
            tool = Tool(binary, fresh(work))
            tool.run("save", f"{work}/../tiny.ram", "--name", "tiny")
            poller = Poller(tool.store, reconnects)
            poller.start()
            for name in ("moment-1", "moment-2", "boot2-moment-1"):
                tool.run("save", f"{images}/{name}.ram", "--name", name, "--vm", "bench")
            poller.ends = True
            poller.join()
            waits += poller.waits
            errors += poller.errors
        rows.append(
            [
                "new for each" if reconnects else "kept open",
                str(len(waits)),
                str(len(errors)),
            ]
            + [f"{value * 1000:.2f} ms" for value in
               (percentile(waits, 0.5), percentile(waits, 0.99), max(waits))]
        )
    print("A reader that polls every millisecond while saves run.\n")
    table(["connection", "reads", "errors", "median", "99 %", "longest"], rows)


def thousand_snapshots(binary, work, runs):
    """Saves of a guest of 16 MiB that changes a little from one to the next."""
    tool = Tool(binary, fresh(work))
    source, pages = f"{work}/ram", 4096
    generator = random.Random(1)
    with open(source, "wb") as file:
        for index in range(pages):
            file.write((generator.randbytes(8) if index % 3 else b"").ljust(PAGE, b"\0"))
    with open(source, "r+b") as file:
        for number in range(SNAPSHOTS):
            for _ in range(20):
                file.seek(generator.randrange(pages) * PAGE)
                file.write(generator.randbytes(8))
            file.flush()
            tool.run("save", source, "--name", f"s{number}", "--vm", f"vm-{number % 10}",
                     "--tag", f"number={number}")
    database = sqlite3.connect(tool.store)
    extents = database.execute("SELECT count(*) FROM ram_extent").fetchone()[0] // SNAPSHOTS
    database.close()
    commands = [("--version",), ("list",), ("list", "--vm", "vm-3"), ("list", "--json"),
                ("show", "s500"), ("show", "latest", "--json"), ("show", "latest~50")]
    times = {command: [] for command in commands}
    for _ in range(max(runs, 20)):
        for command in commands:
            times[command].append(tool.run(*command)[0])
    print(f"A store of {SNAPSHOTS} snapshots with {extents} extents each, the program's start"
          " included.\n")
    table(
        ["command", "median", "longest"],
        [[f"`{' '.join(command)}`", f"{statistics.median(values) * 1000:.1f} ms",
          f"{max(values) * 1000:.1f} ms"] for command, values in times.items()],
    )


def make_sparse(path, seed):
    """16 GiB with an island of up to 400 pages in each 64 MiB."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(16 << 30)
        for offset in range(0, 16 << 30, 64 << 20):
            file.seek(offset + PAGE * generator.randrange(1000))
            file.write(generator.randbytes(PAGE * generator.randrange(1, 400)))


def make_full(path, seed):
    """4 GiB of distinct pages, of which every second does not compress."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        for _ in range(4096):
            block = bytearray(generator.randbytes(512 << 10) + b"\x41" * (512 << 10))
            for offset in range(512 << 10, 1 << 20, PAGE):
                block[offset:offset + 8] = generator.randbytes(8)
            file.write(block)


def memory(binary, work):
    peaks = {}
    for title, make in (("16 GiB, sparse", make_sparse), ("4 GiB, full", make_full)):
        tool = Tool(binary, fresh(work))
        first, second, out = f"{work}/a.ram", f"{work}/b.ram", f"{work}/out.ram"
        make(first, 1)
        make(second, 2)
        steps = [
            ("first save", ("save", first, "--name", "a", "--vm", "v")),
            ("next save", ("save", first, "--name", "a2", "--vm", "v")),
            ("save of another", ("save", second, "--name", "b", "--vm", "w")),
            ("list", ("list",)),
            ("diff", ("diff", "a", "b")),
            ("restore", ("restore", "a", "-o", out)),
            ("verify", ("verify",)),
            ("delete", ("delete", "b")),
            ("gc", ("gc",)),
        ]
        for step, command in steps:
            _, usage = tool.run(*command)
            peaks.setdefault(step, []).append(f"{usage.ru_maxrss / 1024:.0f} MiB")
            if step == "restore":
                os.unlink(out)
    print("Peak resident memory.\n")
    table(["operation", "16 GiB, sparse", "4 GiB, full"],
          [[step, *values] for step, values in peaks.items()])


def main():
    binary, images, work, runs = sys.argv[1:4] + [int(sys.argv[4])]
    with open(f"{work}/tiny.ram", "wb") as file:
        file.write(b"vmckpt".ljust(PAGE, b"\0"))
    scratch = f"{work}/limits"
    written(binary, images, scratch)
    readers(binary, images, scratch, runs)
    thousand_snapshots(binary, scratch, runs)
    memory(binary, scratch)


if __name__ == "__main__":
    main()
