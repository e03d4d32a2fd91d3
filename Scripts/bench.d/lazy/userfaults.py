"""Measures pages that `vmckpt serve --uffd` puts in place.

The VM is this process: memory that it has mapped, registered with userfaultfd and handed over as Firecracker does,
and touched here page by page.
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

from common import PAGE, Row, faults, mib, microseconds, milliseconds, peak_memory, processes, server_memory_goal

TOUCHES = 6000
KILLS = 20
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

    def touch(self, pages, wanted=None):
        """Seconds that each access took; pages that are not those of the file `wanted` end the measurement."""
        memory, clock, times = self.memory, time.perf_counter, []
        for page in pages:
            offset = page * PAGE
            start = clock()
            memory[offset]
            times.append(clock() - start)
            if wanted and os.pread(wanted, PAGE, offset) != memory[offset : offset + PAGE]:
                sys.exit(f"lazy: page {page} is wrong")
        return times


class Server:
    """`vmckpt serve`, and what it says at its end."""

    def __init__(self, tool, *options):
        self.path = os.path.join(tool.work, "pages.sock")
        command = tool.command("serve", "guest", "--uffd", self.path, "--json", *options)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        # When a measurement fails: a server waits for VMs for ever.
        atexit.register(self.abandon)

    def abandon(self):
        for process in self.processes():
            os.kill(process, signal.SIGTERM)

    def processes(self):
        """The pids of those that serve now, not of keepers."""
        return processes(self.path)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.result()

    def result(self):
        output = self.process.communicate()[0]
        if self.process.returncode != 0:
            sys.exit("lazy: vmckpt serve failed")
        return json.loads(output)


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


def measure_guest(tool, label, pages, byte_count, runs, rows):
    """Faults, the background, and memory, with one guest."""
    generator = random.Random(1)
    restores, firsts, rates, peaks, quiet, busy, server_quiet = [], [], [], [], [], [], []
    for _ in range(runs):
        target = os.path.join(tool.work, "restored.ram")
        start = time.perf_counter()
        tool.run("restore", "guest", "-o", target, "--force")
        restores.append(time.perf_counter() - start)
        os.remove(target)

        # Only faults.
        server = Server(tool, "--no-prefetch", *UNRECORDED)
        vm = VM(byte_count, server.path)
        order = generator.sample(pages, min(TOUCHES, len(pages)))
        vm.touch(order[:1])
        firsts.append(time.perf_counter() - vm.start)
        quiet += vm.touch(order[1:])
        peaks.append(peak_memory(server.process.pid))
        result = server.end()
        server_quiet.append((result["fault_seconds_p50"], result["fault_seconds_p99"]))

        # All of it in the background, and faults meanwhile.
        server = Server(tool, "--once", *UNRECORDED)
        vm = VM(byte_count, server.path)
        result = server.result()
        rates.append(byte_count / (1 << 20) / (time.perf_counter() - vm.start))
        server = Server(tool, "--once", *UNRECORDED)
        vm = VM(byte_count, server.path)
        busy += vm.touch(generator.sample(pages, min(TOUCHES, len(pages))))
        server.result()
    restore, first = statistics.median(restores), statistics.median(firsts)
    group = "until a VM has its first page"
    rows.append(
        Row(f"{label}: restore, before a VM can run", milliseconds(restore), seconds=restore, group=group)
    )
    rows.append(
        Row(
            f"{label}: userfaultfd, from handing over to the first page",
            milliseconds(first),
            beside=f"{first / restore:.4f} × restore",
            seconds=first,
            group=group,
        )
    )
    medians = [statistics.median(each) for each in zip(*server_quiet)]
    text = " / ".join(microseconds(each) for each in medians)
    rows.append(
        Row(
            f"{label}: userfaultfd fault, seen by the VM, p50 / p99",
            faults(quiet),
            "≤ 50 / 300 µs",
            f"in the server {text} µs",
        )
    )
    rows.append(Row(f"{label}: the same while the rest comes", faults(busy)))
    rate = statistics.median(rates)
    seconds = byte_count / (1 << 20) / rate
    rows.append(
        Row(
            f"{label}: all RAM by userfaultfd in the background, zeros counted",
            f"{rate:.0f} MiB/s",
            "≥ 400 MiB/s",
            f"{seconds / restore:.2f} × restore",
        )
    )
    rows.append(
        Row(f"{label}: memory of a userfaultfd server", mib(max(peaks)), server_memory_goal(byte_count))
    )


def measure_working_set(tool, label, pages, byte_count, runs, rows):
    """The same start without a working set, while one is recorded, and with it."""
    generator, places = random.Random(3), set()
    order = []
    for first in generator.sample(pages, min(PLACES, len(pages))):
        run = [page for page in range(first, min(first + PLACE_PAGES, byte_count // PAGE))]
        order += [page for page in run if page not in places]
        places.update(run)
    server = Server(tool, "--record-working-set", "2")
    vm = VM(byte_count, server.path)
    recorded_seconds = sum(vm.touch(order))
    time.sleep(3)
    result = server.end()
    if not result["working_set_recorded"]:
        sys.exit("lazy: no working set was recorded")
    all_faults, seconds, left = result["faults"], [], []
    for delay, when in ((0, "at once"), (LOAD_SECONDS, f"{LOAD_SECONDS * 1000:.0f} ms later")):
        for _ in range(runs):
            server = Server(tool, "--once")
            vm = VM(byte_count, server.path)
            time.sleep(delay)
            seconds.append(sum(vm.touch(order)))
            left.append(server.result()["faults"] / all_faults)
        rows.append(
            Row(
                f"{label}: a start's {len(order)} pages by userfaultfd, with working set, {when}",
                f"{milliseconds(statistics.median(seconds))}, "
                f"{statistics.median(left) * 100:.1f} % of the faults left",
                "≤ 2 % left" if delay else "",
                f"{statistics.median(seconds) / recorded_seconds:.3f} × without",
            )
        )
        seconds.clear()
        left.clear()


def measure_kills(tool, image, pages, byte_count, rows):
    """The longest wait for a page around a `kill -9` of the server, with each page compared."""
    generator, wanted = random.Random(2), os.open(image, os.O_RDONLY)
    server = Server(tool, "--no-prefetch", *UNRECORDED)
    vm = VM(byte_count, server.path)
    order = generator.sample(pages, len(pages))
    vm.touch(order[:100], wanted)
    stalls, part = [], len(order) // (KILLS + 1)
    for index in range(KILLS):
        for process in server.processes():
            os.kill(process, signal.SIGKILL)
        start = (index + 1) * part
        stalls.append(max(vm.touch(order[start : start + min(part, 200)], wanted)))
    os.close(wanted)
    server.process.wait()
    for process in server.processes():
        os.kill(process, signal.SIGTERM)
    while server.processes():
        time.sleep(0.01)
    rows.append(
        Row(
            f"`kill -9` of a userfaultfd server, {KILLS} times: longest wait for a page, median / worst",
            f"{statistics.median(stalls) * 1000:.0f} / {max(stalls) * 1000:.0f} ms, no wrong page",
            "≤ 500 ms, no wrong page",
        )
    )
