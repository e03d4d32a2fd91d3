"""Measures how fast a VM gets its pages from a store while it runs, beside restoring them first. Prints a
Markdown table; every number is of one run of this program, and ratios are of numbers beside each other.

Usage: lazy.py VMCKPT IMAGE WORK RUNS
IMAGE is a RAM file; WORK is for scratch. Needs root, or vm.unprivileged_userfaultfd=1.

The VM is this process: memory that it has mapped, registered with userfaultfd and handed to `vmckpt serve --uffd`
as Firecracker does, and touched here page by page. A row for an 8 GiB guest has the same RAM with holes behind it.
"""

import atexit
import ctypes
import json
import mmap
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time

PAGE = 4096
TOUCHES = 6000
KILLS = 20
LARGE = 8 << 30
UNRECORDED = ("--record-working-set", "0")
# A start: so many places in RAM, and consecutive pages at each.
PLACES, PLACE_PAGES = 400, 20
# From handing memory over to running, as a VMM that loads its device state needs.
LOAD_SECONDS = 0.05

libc = ctypes.CDLL(None, use_errno=True)
SYS_USERFAULTFD = 323
UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
FEATURE_EVENT_REMOVE = 1 << 3
# Python's mmap has no name for it before 3.13.
MAP_NORESERVE = 0x4000


def ioctl(fd, request, data):
    if libc.ioctl(fd, ctypes.c_ulong(request), data) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class VM:
    """Memory whose pages a server puts in place."""

    def __init__(self, byte_count, path):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self.memory = mmap.mmap(-1, byte_count, flags=flags)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.fd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd: see vm.unprivileged_userfaultfd")
        ioctl(self.fd, UFFDIO_API, (ctypes.c_uint64 * 3)(0xAA, FEATURE_EVENT_REMOVE, 0))
        ioctl(self.fd, UFFDIO_REGISTER, (ctypes.c_uint64 * 4)(address, byte_count, 1, 0))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                self.socket.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.002)
        self.start = time.perf_counter()
        mapping = {"base_host_virt_addr": address, "size": byte_count, "offset": 0, "page_size": PAGE}
        socket.send_fds(self.socket, [json.dumps([mapping]).encode()], [self.fd])

    def touch(self, pages):
        """Seconds that each access took."""
        memory, clock, times = self.memory, time.perf_counter, []
        for page in pages:
            offset = page * PAGE
            start = clock()
            memory[offset]
            times.append(clock() - start)
        return times


class Server:
    """`vmckpt serve`, and what it says at its end."""

    def __init__(self, vmckpt, store, work, *options):
        self.path = os.path.join(work, "pages.sock")
        arguments = ["serve", "guest", "--uffd", self.path, "--store", store, "--json", *options]
        self.process = subprocess.Popen([vmckpt, *arguments], stdout=subprocess.PIPE)
        # When a measurement fails: a server waits for VMs for ever.
        atexit.register(self.abandon)

    def abandon(self):
        for process in self.processes():
            os.kill(process, signal.SIGTERM)

    def processes(self):
        """The pids of those that serve now, not of keepers."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if self.path.encode() in words and b"__serve-keeper" not in words:
                found.append(int(name))
        return found

    def peak(self):
        """The most memory that it has had so far, in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.result()

    def result(self):
        output = self.process.communicate()[0]
        if self.process.returncode != 0:
            sys.exit("lazy: vmckpt serve failed")
        return json.loads(output)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def microseconds(seconds):
    return f"{seconds * 1e6:.0f}"


def faults(times):
    """Those that were faults: what is in place takes a microsecond."""
    waited = [each for each in times if each > 3e-6] or [0]
    return f"{microseconds(percentile(waited, 0.5))} / {microseconds(percentile(waited, 0.99))}"


def stored_pages(image):
    """The numbers of the image's pages that are not zero."""
    zero, pages = bytes(PAGE), []
    with open(image, "rb") as file:
        index = 0
        while page := file.read(PAGE):
            if page != zero:
                pages.append(index)
            index += 1
    return pages, index


def save(vmckpt, store, image):
    subprocess.run(
        [vmckpt, "save", image, "--store", store, "--name", "guest"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def measure_guest(vmckpt, store, work, label, pages, byte_count, runs):
    """Rows of one guest."""
    rows, generator = [], random.Random(1)
    restores, firsts, rates, peaks, quiet, busy, server_quiet = [], [], [], [], [], [], []
    for _ in range(runs):
        target = os.path.join(work, "restored.ram")
        start = time.perf_counter()
        subprocess.run(
            [vmckpt, "restore", "guest", "--store", store, "-o", target, "--force"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        restores.append(time.perf_counter() - start)
        os.remove(target)

        # Only faults.
        server = Server(vmckpt, store, work, "--no-prefetch", *UNRECORDED)
        vm = VM(byte_count, server.path)
        order = generator.sample(pages, min(TOUCHES, len(pages)))
        vm.touch(order[:1])
        firsts.append(time.perf_counter() - vm.start)
        quiet += vm.touch(order[1:])
        peaks.append(server.peak())
        result = server.end()
        server_quiet.append((result["fault_seconds_p50"], result["fault_seconds_p99"]))

        # All of it in the background, and faults meanwhile.
        server = Server(vmckpt, store, work, "--once", *UNRECORDED)
        vm = VM(byte_count, server.path)
        result = server.result()
        rates.append(byte_count / (1 << 20) / (time.perf_counter() - vm.start))
        server = Server(vmckpt, store, work, "--once", *UNRECORDED)
        vm = VM(byte_count, server.path)
        busy += vm.touch(generator.sample(pages, min(TOUCHES, len(pages))))
        server.result()
    restore, first = statistics.median(restores), statistics.median(firsts)
    rows.append([f"{label}: restore, before a VM can run", f"{restore * 1000:.0f} ms", ""])
    rows.append(
        [f"{label}: from handing over to the first page", f"{first * 1000:.1f} ms"]
        + [f"{first / restore:.4f} × restore"]
    )
    rows.append([f"{label}: fault, seen by the VM, p50 / p99", f"{faults(quiet)} µs", ""])
    medians = [statistics.median(each) for each in zip(*server_quiet)]
    text = " / ".join(microseconds(each) for each in medians)
    rows.append([f"{label}: the same, in the server", f"{text} µs", ""])
    rows.append([f"{label}: fault while the rest comes", f"{faults(busy)} µs", ""])
    rate = statistics.median(rates)
    seconds = byte_count / (1 << 20) / rate
    rows.append(
        [f"{label}: all RAM in the background, zeros counted", f"{rate:.0f} MiB/s"]
        + [f"{seconds / restore:.2f} × restore"]
    )
    peak = max(peaks)
    rows.append(
        [f"{label}: memory of the server", f"{peak / (1 << 20):.0f} MiB"]
        + [f"{peak / byte_count * 100:.2f} % of RAM"]
    )
    return rows


def measure_working_set(vmckpt, store, work, label, pages, byte_count, runs):
    """The same start without a working set, while one is recorded, and with it."""
    generator, places = random.Random(3), set()
    order = []
    for first in generator.sample(pages, min(PLACES, len(pages))):
        run = [page for page in range(first, min(first + PLACE_PAGES, byte_count // PAGE))]
        order += [page for page in run if page not in places]
        places.update(run)
    server = Server(vmckpt, store, work, "--record-working-set", "2")
    vm = VM(byte_count, server.path)
    recorded_seconds = sum(vm.touch(order))
    time.sleep(3)
    result = server.end()
    if not result["working_set_recorded"]:
        sys.exit("lazy: no working set was recorded")
    all_faults, seconds, left = result["faults"], [], []
    rows = []
    for delay, when in ((0, "at once"), (LOAD_SECONDS, f"{LOAD_SECONDS * 1000:.0f} ms later")):
        for _ in range(runs):
            server = Server(vmckpt, store, work, "--once")
            vm = VM(byte_count, server.path)
            time.sleep(delay)
            seconds.append(sum(vm.touch(order)))
            left.append(server.result()["faults"] / all_faults)
        rows.append(
            [f"{label}: a start's {len(order)} pages, with a working set, {when}"]
            + [f"{statistics.median(seconds) * 1000:.1f} ms, {statistics.median(left) * 100:.1f} % of the faults"]
            + [f"{statistics.median(seconds) / recorded_seconds:.3f} × without"]
        )
        seconds.clear()
        left.clear()
    return rows


def measure_kills(vmckpt, store, work, pages, byte_count):
    """The longest wait for a page around a `kill -9` of the server."""
    generator = random.Random(2)
    server = Server(vmckpt, store, work, "--no-prefetch", *UNRECORDED)
    vm = VM(byte_count, server.path)
    order = generator.sample(pages, len(pages))
    vm.touch(order[:100])
    stalls, part = [], len(order) // (KILLS + 1)
    for index in range(KILLS):
        for process in server.processes():
            os.kill(process, signal.SIGKILL)
        start = (index + 1) * part
        stalls.append(max(vm.touch(order[start : start + min(part, 200)])))
    server.process.wait()
    for process in server.processes():
        os.kill(process, signal.SIGTERM)
    while server.processes():
        time.sleep(0.01)
    return [
        [f"`kill -9`, {KILLS} times: longest wait for a page, median / worst"]
        + [f"{statistics.median(stalls) * 1000:.0f} / {max(stalls) * 1000:.0f} ms", ""]
    ]


def main():
    vmckpt, image, work, runs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    pages, count = stored_pages(image)
    store = os.path.join(work, "s.db")
    save(vmckpt, store, image)
    label = f"{count * PAGE >> 20} MiB"
    rows = measure_guest(vmckpt, store, work, label, pages, count * PAGE, runs)
    rows += measure_kills(vmckpt, store, work, pages, count * PAGE)
    rows += measure_working_set(vmckpt, store, work, label, pages, count * PAGE, runs)

    large = os.path.join(work, "large.ram")
    subprocess.run(["cp", "--sparse=always", image, large], check=True)
    os.truncate(large, LARGE)
    store = os.path.join(work, "large.db")
    save(vmckpt, store, large)
    os.remove(large)
    rows += measure_guest(vmckpt, store, work, "8 GiB sparse", pages, LARGE, runs)

    print("| what | measured | beside |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


main()
