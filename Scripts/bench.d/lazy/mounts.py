"""Measures pages that come from a mounted store: touched at random, by guests that run from it, and by clones."""

import mmap
import os
import random
import signal
import statistics
import time

from common import MIB, PAGE, Row, faults, mib, peak_memory, processes, server_memory_goal, wait_until
from guests import Start

TOUCHES = 20_000
KILLS = 20
CLONES = 10
UNRECORDED = ("--record-working-set", "0")


class Mount:
    """A mounted store, until it is taken away."""

    def __init__(self, tool, *options):
        self.tool = tool
        self.directory = os.path.join(tool.work, "mount")
        os.makedirs(self.directory, exist_ok=True)
        tool.run("mount", self.directory, *options)

    def folder(self, name):
        return os.path.join(self.directory, "by-name", name)

    def server(self):
        return wait_until("the mount's server", lambda: processes("mount", self.directory))[0]

    def end(self):
        self.tool.run("unmount", self.directory, "--lazy")
        wait_until("the mount's end", lambda: not processes("mount", self.directory))


class Mapping:
    """RAM as a VM has it: opened for writing, and mapped privately. Each page is asked for by itself."""

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR)
        size = os.fstat(self.file).st_size
        self.page_count = size // PAGE
        self.memory = mmap.mmap(self.file, size, flags=mmap.MAP_PRIVATE)
        self.memory.madvise(mmap.MADV_RANDOM)

    def touch(self, pages, wanted=None):
        """Seconds that each access took; pages that are not those of the file `wanted` end the measurement."""
        memory, clock, times = self.memory, time.perf_counter, []
        for page in pages:
            offset = page * PAGE
            start = clock()
            memory[offset]
            times.append(clock() - start)
            if wanted and os.pread(wanted, PAGE, offset) != memory[offset : offset + PAGE]:
                raise SystemExit(f"lazy: page {page} is wrong")
        return times

    def forget(self):
        """Lets the kernel forget the file."""
        size = self.page_count * PAGE
        self.memory.close()
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)
        self.memory = mmap.mmap(self.file, size, flags=mmap.MAP_PRIVATE)
        self.memory.madvise(mmap.MADV_RANDOM)

    def close(self):
        self.memory.close()
        os.close(self.file)


def measure_faults(tool, name, label, runs, rows):
    mount = Mount(tool, *UNRECORDED)
    path = os.path.join(mount.folder(name), "ram")
    mapping, generator, times = Mapping(path), random.Random(5), []
    for _ in range(runs):
        mapping.forget()
        times += mapping.touch(
            generator.sample(range(mapping.page_count), min(TOUCHES, mapping.page_count))
        )
    rows.append(Row(f"{label}: fault by the mount under MADV_RANDOM, p50 / p99", faults(times), "≤ 150 / 600 µs"))
    mapping.close()

    start, byte_count = time.perf_counter(), 0
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while part := file.read(MIB):
            byte_count += len(part)
    rate = byte_count / MIB / (time.perf_counter() - start)
    rows.append(Row(f"{label}: read from the mount from beginning to end", f"{rate:.0f} MiB/s"))
    peak = peak_memory(mount.server())
    rows.append(Row(f"{label}: memory of the mount's server", mib(peak), server_memory_goal(byte_count)))
    mount.end()


def measure_kills(tool, name, image, rows):
    """The longest wait for a page around a `kill -9` of the mount's server, with each page compared."""
    mount = Mount(tool, *UNRECORDED)
    mapping, generator = Mapping(os.path.join(mount.folder(name), "ram")), random.Random(6)
    wanted, stalls, last = os.open(image, os.O_RDONLY), [], None
    mapping.forget()
    order = generator.sample(range(mapping.page_count), mapping.page_count)
    for index in range(KILLS):
        last = wait_until(
            "another server", lambda: [pid for pid in processes("mount", mount.directory) if pid != last]
        )[0]
        # Until its keeper has what the next one needs: who kills both ends the mount.
        time.sleep(generator.uniform(0.3, 0.4))
        os.kill(last, signal.SIGKILL)
        part = order[index * 200 : index * 200 + 200]
        stalls.append(max(mapping.touch(part, wanted)))
    mapping.close()
    os.close(wanted)
    mount.end()
    rows.append(
        Row(
            f"`kill -9` of the mount's server, {KILLS} times: longest wait for a page, median / worst",
            f"{statistics.median(stalls) * 1000:.0f} / {max(stalls) * 1000:.0f} ms, no wrong page",
            "≤ 500 ms, no wrong page",
        )
    )


def start_work(recipe, steps, *options):
    """Seconds until a guest has done its work that runs from a mount of its own, of which the kernel has nothing in memory.

    With options for recording it is watched for as long as they ask for."""
    mount = Mount(recipe.tool, *options)
    folder = mount.folder(recipe.name)
    begun = Start(recipe, "mount", ram_path=f"{folder}/ram")
    begun.go(f"exec:cat {folder}/device.state")
    work = begun.seconds_to_steps(steps)
    if options:
        wait_until(
            "the working set",
            lambda: (recipe.tool.json("show", recipe.name)["working_set"] or {}).get("door") == "mount",
        )
    begun.end()
    mount.end()
    return work


def shares(pid, path):
    """Of a process's mapping of a file: what it has to itself, and its part of what it shares, in bytes."""
    found, private, part = False, 0, 0
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as lines:
        for line in lines:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                found = words[-1] == path
            elif found and words[0] == "Pss:":
                part += int(words[1]) * 1024
            elif found and words[0] == "Anonymous:":
                private += int(words[1]) * 1024
    return private, part - private


def measure_clones(recipe, steps, rows):
    """The memory of clones' RAM: what they write, and what they share, against one alone."""
    mount = Mount(recipe.tool, *UNRECORDED)
    folder = mount.folder(recipe.name)

    def run(count):
        started = [Start(recipe, f"clone-{index}", ram_path=f"{folder}/ram") for index in range(count)]
        for clone in started:
            clone.go(f"exec:cat {folder}/device.state")
        for clone in started:
            clone.seconds_to_steps(steps)
        found = [shares(clone.guest.process.pid, f"{folder}/ram") for clone in started]
        for clone in started:
            clone.end()
        return sum(each[0] for each in found), sum(each[1] for each in found)

    written_by_one, shared_by_one = run(1)
    written, shared = run(CLONES)
    mount.end()
    rows.append(
        Row(
            f"{recipe.name}: {CLONES} clones from one mount: RAM that they share",
            f"{mib(shared)}, {shared / max(shared_by_one, 1):.2f} × one's",
            "≤ 1.2 × one's",
            f"one has {mib(shared_by_one)} and writes {mib(written_by_one)}; all write {mib(written)}",
        )
    )
