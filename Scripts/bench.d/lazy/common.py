"""What all measurements of lazy pages share: running vmckpt, numbers, rows of the table."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

PAGE = 4096
MIB = 1 << 20


@dataclass
class Row:
    """A line of the table."""

    what: str
    measured: str
    # As the project promises it; empty where it promises nothing.
    goal: str = ""
    beside: str = ""
    # For the plot: seconds, and which of its groups.
    seconds: float | None = None
    group: str = ""


@dataclass
class Tool:
    """vmckpt with a store."""

    vmckpt: str
    store: str
    # For scratch.
    work: str

    def command(self, *arguments):
        return [self.vmckpt, *arguments, "--store", self.store]

    def run(self, *arguments):
        """Runs it to its end, and returns what it prints."""
        done = subprocess.run(self.command(*arguments), stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"lazy: vmckpt {' '.join(arguments)} ended with exit code {done.returncode}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    def forget_working_set(self, name):
        """Makes the next start one of which nothing is known."""
        sql = """
          DELETE FROM working_set WHERE snapshot_id = (SELECT id FROM snapshot WHERE name = ?)
        """
        import sqlite3

        database = sqlite3.connect(self.store)
        with database:
            database.execute("PRAGMA foreign_keys = ON")
            if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'working_set'").fetchone():
                database.execute(sql, (name,))
        database.close()

    def drop_from_memory(self):
        """Lets the kernel forget the store's pages: the next reads come from the disk."""
        file = os.open(self.store, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)

    def warm(self):
        """Reads the store, so that the kernel has its pages."""
        with open(self.store, "rb") as file:
            while file.read(MIB):
                pass


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def milliseconds(seconds):
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def microseconds(seconds):
    return f"{seconds * 1e6:.0f}"


def latency(times):
    """p50 / p99 of seconds."""
    times = times or [0]
    return f"{microseconds(percentile(times, 0.5))} / {microseconds(percentile(times, 0.99))} µs"


def faults(times):
    """The same of accesses that were faults: what is in place takes a microsecond or two."""
    return latency([each for each in times if each > 3e-6])


def mib(byte_count):
    return f"{byte_count / MIB:.0f} MiB"


def server_memory_goal(ram_byte_count):
    """What a server may have in memory."""
    return f"≤ {mib(64 * MIB + ram_byte_count / 1000)}"


def peak_memory(pid):
    """The most that a process has had in memory so far, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def processes(*words):
    """The pids of those whose arguments have all these words, and that are not keepers."""
    wanted, found = {word.encode() for word in words}, []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                arguments = file.read().split(b"\0")
        except OSError:
            continue
        if wanted <= set(arguments) and b"__serve-keeper" not in arguments:
            found.append(int(name))
    return found


def wait_until(what, condition, seconds=120.0):
    """Polls until something is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"lazy: waited in vain: {what}")
        time.sleep(0.002)
    return value


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)
