#!/usr/bin/env python3
"""Measures for how long `vmckpt save qemu:` stops a guest. Called by Scripts/bench --pause.

A QEMU without KVM has RAM in a shared file in memory. Of that file, pages are touched, made of a real guest's with a
number mixed in so that nothing is equal by chance; and 1 % of them change each second, written by this process, as a
device in another process would write them. Each run measures two saves, one after the other:

  new   RAM is read while the guest runs, and compared while it is stopped
  old   RAM is read while the guest is stopped, as with --leave-stopped: from QEMU's STOP to the end of the save

and with RAM of QEMU's own, in a second QEMU, one by a background snapshot where QEMU has that (QEMU 10 and later:
VMCKPT_BENCH_QEMU names one). The image is in that RAM several times.

Arguments: vmckpt IMAGE DIRECTORY RUNS SIZE [QEMU]; SIZE is "full" or "small". DIRECTORY has the store.
"""

import json
import mmap
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PAGE = 4096
SHARE_PER_SECOND = 0.01


class Monitor:
    """A connection to QEMU's monitor that keeps the times of STOP and RESUME."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.file = self.socket.makefile("rw")
        self.times = {}
        self.file.readline()
        self.run("qmp_capabilities")

    def run(self, command):
        self.file.write(json.dumps({"execute": command}) + "\n")
        self.file.flush()
        while True:
            message = json.loads(self.file.readline())
            if "event" not in message:
                return message
            stamp = message["timestamp"]
            self.times[message["event"]] = stamp["seconds"] + stamp["microseconds"] / 1e6


class Guest:
    """QEMU, and what writes to its RAM."""

    def __init__(self, qemu, directory, megabytes, ram_path=None, loads=()):
        self.path = os.path.join(directory, "qmp")
        ram = ["-m", f"{megabytes}M"]
        machine = "q35,accel=tcg"
        if ram_path:
            backend = f"memory-backend-file,id=pc.ram,size={megabytes}M,mem-path={ram_path},share=on"
            ram += ["-object", backend]
            machine += ",memory-backend=pc.ram"
        for file, address in loads:
            ram += ["-device", f"loader,file={file},addr={address},force-raw=on"]
        self.process = subprocess.Popen(
            [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", machine]
            + ram
            + ["-qmp", f"unix:{self.path},server=on,wait=off"]
            + ["-qmp", f"unix:{self.path}2,server=on,wait=off"]
        )
        self.monitor = Monitor(self.path + "2")

    def end(self):
        self.process.kill()
        self.process.wait()


class Writer(threading.Thread):
    """Changes a share of the touched pages each second."""

    def __init__(self, memory, first, count):
        super().__init__(daemon=True)
        self.memory, self.first, self.count = memory, first, count
        self.over = threading.Event()

    def run(self):
        number = 0
        generator = random.Random(1)
        start = time.monotonic()
        written = 0
        while not self.over.wait(0.02):
            due = int((time.monotonic() - start) * self.count * SHARE_PER_SECOND)
            for _ in range(due - written):
                number += 1
                offset = (self.first + generator.randrange(self.count)) * PAGE
                self.memory[offset + 64 : offset + 72] = number.to_bytes(8, "little")
            written = due


def touch(memory, image, first, count):
    """Fills pages with those of the image that are not zero, again and again, a number in each."""
    pages = []
    with open(image, "rb") as file:
        while len(pages) < 32768 and (page := file.read(PAGE)):
            if page.count(0) < PAGE:
                pages.append(page)
    for index in range(count):
        offset = (first + index) * PAGE
        memory[offset : offset + PAGE] = pages[index % len(pages)]
        memory[offset : offset + 8] = (index + 1).to_bytes(8, "little")


def save(vmckpt, store, guest, *options):
    start = time.monotonic()
    result = subprocess.run(
        [vmckpt, "save", f"qemu:{guest.path}", "--store", store, "--vm", "bench", "--json", *options],
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        sys.exit(f"bench: {result.stderr}")
    return json.loads(result.stdout), time.monotonic() - start


def main():
    vmckpt, image, directory, runs, size, *rest = sys.argv[1:]
    qemu = rest[0] if rest else "qemu-system-x86_64"
    ram, touched = (4096, 2048) if size == "full" else (512, 256)
    times = {"first": [], "new": [], "old": [], "background": []}
    totals = {"first": [], "new": [], "old": [], "background": []}
    changed = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        ram_path = os.path.join(shared, "ram")
        with open(ram_path, "wb") as file:
            file.truncate(ram << 20)
        descriptor = os.open(ram_path, os.O_RDWR)
        memory = mmap.mmap(descriptor, ram << 20)
        first, count = (64 << 20) // PAGE, (touched << 20) // PAGE
        guest = Guest(qemu, shared, ram, ram_path)
        touch(memory, image, first, count)
        writer = Writer(memory, first, count)
        writer.start()
        try:
            store = os.path.join(directory, "pause.db")
            result, total = save(vmckpt, store, guest)
            times["first"].append(result["paused_seconds"])
            totals["first"].append(total)
            for _ in range(int(runs)):
                result, total = save(vmckpt, store, guest)
                times["new"].append(result["paused_seconds"])
                totals["new"].append(total)
                changed.append(result["new_pages"] * PAGE / (1 << 20))
                result, total = save(vmckpt, store, guest, "--leave-stopped")
                ended = time.time()
                guest.monitor.run("query-status")
                times["old"].append(ended - guest.monitor.times["STOP"])
                totals["old"].append(total)
                guest.monitor.run("cont")
        finally:
            writer.over.set()
            writer.join()
            guest.end()
    image_mib = os.path.getsize(image) >> 20
    copies = 4 if size == "full" else 1
    with tempfile.TemporaryDirectory() as place:
        loads = [(image, (64 + index * image_mib) << 20) for index in range(copies)]
        guest = Guest(qemu, place, 64 + (copies + 1) * image_mib, loads=loads)
        time.sleep(2)
        try:
            for _ in range(int(runs)):
                result, total = save(vmckpt, os.path.join(directory, "own.db"), guest)
                if result.get("pause_method") == "background-snapshot":
                    times["background"].append(result["paused_seconds"])
                    totals["background"].append(total)
        finally:
            guest.end()
    gib = touched / 1024
    print(f"{ram} MiB of RAM in a shared file, {touched} MiB touched, 1 % of them changed each second")
    print(f"(new pages of a save: {statistics.median(changed):.0f} MiB); medians of {runs}")
    if times["background"]:
        print(f"background: RAM of QEMU's own with {copies * image_mib} MiB of a guest's image")
    print()
    print("| save | paused | for each GiB touched | whole save |")
    print("|---|---|---|---|")
    for name in times:
        if not times[name]:
            continue
        pause, total = statistics.median(times[name]), statistics.median(totals[name])
        each = "-" if name == "background" else f"{pause / gib * 1000:.0f} ms"
        print(f"| {name} | {pause * 1000:.0f} ms | {each} | {total:.2f} s |")
    ratio = statistics.median(times["new"]) / statistics.median(times["old"])
    print(f"\nnew / old: {ratio:.2f}")


main()
