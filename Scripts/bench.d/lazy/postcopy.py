"""Measures starts of real guests in QEMU: by postcopy migration from vmckpt, from a mount, and from a restored file."""

import os
import random
import re
import shutil
import signal
import statistics
import threading
import time

from common import MIB, PAGE, Row, latency, mib, milliseconds, peak_memory, server_memory_goal
from common import processes, wait_until
from guests import Process, Start

POSTCOPY = ("-global", "migration.x-postcopy-ram=on")
UNRECORDED = ("--record-working-set", "0")
# Steps of the guest's work until its start counts as over.
STEPS = 40
KILLS = 20
# A server that takes a guest up pushes its pages, and soon is done.
KILLS_OF_GUEST = 4
EVENT = re.compile(r"^\d+@(\d+\.\d+):(\w+) (.*)")


class Server:
    """`vmckpt serve --qemu`, which waits for QEMU to listen."""

    def __init__(self, recipe, path, options):
        command = recipe.tool.command("serve", recipe.name, "--qemu", "--connect", path, "--json")
        self.process = Process(command + list(options), recipe.place("server"))
        # The most memory that it has had.
        self.peak = 0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while self.process.process.poll() is None:
            try:
                self.peak = max(self.peak, peak_memory(self.process.process.pid))
            except (OSError, StopIteration):
                break
            time.sleep(0.01)

    def report(self):
        self.process.process.wait()
        self.process.thread.join()
        return self.process.report()


def start(recipe, way, steps=0, options=(), qemu_options=(), wants_blocktime=False):
    """Starts a guest, and measures it. What is not there was not asked for."""
    capabilities = ["postcopy-ram"] + (["postcopy-blocktime"] if wants_blocktime else [])
    begun = Start(recipe, way, options=list(qemu_options), capabilities=capabilities)
    socket = f"{begun.place}/incoming"
    server = None
    if way == "server":
        server = Server(recipe, socket, options)
        # It has looked at the snapshot, and waits for QEMU.
        time.sleep(0.4)
        begun.go(f"unix:{socket}")
    else:
        command = recipe.tool.command("serve", recipe.name, "--qemu", "--json", *options)
        begun.go("exec:" + " ".join(command))
    result = {}
    if "-S" not in qemu_options:
        result["resume"] = begun.seconds_to_resume()
    if steps:
        result["work"] = begun.seconds_to_steps(steps)
    migration = {}
    if "--no-prefetch" not in options:
        migration = begun.wait_for_pages()
        if server:
            result["report"] = server.report()
    begun.end()
    if server:
        server.process.kill()
        result["peak"] = server.peak
    result["blocktime"] = migration.get("postcopy-blocktime")
    result["vcpu_blocktime"] = max(migration.get("postcopy-vcpu-blocktime", [0]))
    result["place"] = begun.place
    return result


def start_from_file(recipe, folder, steps, part):
    """Starts a guest from files of its RAM and its state."""
    begun = Start(recipe, part, ram_path=f"{folder}/ram")
    begun.go(f"exec:cat {folder}/device.state")
    result = {"resume": begun.seconds_to_resume()}
    if steps:
        result["work"] = begun.seconds_to_steps(steps)
    begun.end()
    return result


def placed(path):
    """Seconds from each request of QEMU's to the page's being in place, by QEMU's own trace."""
    asked, times = {}, []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not (match := EVENT.match(line)):
                continue
            when, event, rest = float(match[1]), match[2], match[3]
            if not (address := re.search(r"\b(?:HVA|host)=(0x[0-9a-f]+)", rest)):
                continue
            page = int(address[1], 16) & ~(PAGE - 1)
            if event == "postcopy_ram_fault_thread_request":
                asked.setdefault(page, when)
            elif page in asked:
                times.append(when - asked.pop(page))
    return times


def measure_resume(recipe, runs, rows):
    """From `migrate-incoming` to RESUME; returns the median from a server that runs."""
    label = recipe.name
    medians = {}
    for way, what, goal in (
        ("server", "from a server that runs", "≤ 25 ms"),
        ("exec", "by `exec:`", "≤ 45 ms"),
    ):
        times = [start(recipe, way, options=UNRECORDED)["resume"] for _ in range(2 * runs + 1)]
        medians[way] = statistics.median(times)
        rows.append(
            Row(
                f"{label}: `migrate-incoming` to RESUME, {what}",
                f"{milliseconds(medians[way])} (worst of {len(times)}: {milliseconds(max(times))})",
                goal,
                seconds=medians[way],
                group="until the guest runs",
            )
        )
    return medians["server"]


def restore(recipe):
    """Restores a folder to run the guest from; returns it, and the seconds that took."""
    folder = recipe.place("restored")
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    recipe.tool.run("restore", recipe.name, "--format", "qemu", "-o", folder)
    return folder, time.monotonic() - begin


def measure_work(recipe, runs, rows, mounts):
    """A start's work, with working set and without, beside restored files. The working set is recorded here."""
    label, tool = recipe.name, recipe.tool
    restores, file, results, cold, mounted = [], [], [], [], []
    # What is known of the guest is recorded by each way of its own.
    tool.forget_working_set(label)
    pushed = [start(recipe, "server", STEPS, UNRECORDED) for _ in range(runs)]
    first = start(recipe, "server", STEPS, ("--record-working-set", "5"), wants_blocktime=True)
    set_pages = tool.json("show", label)["working_set"]["pages"]
    twin = recipe.twin()
    mounted_first = mounts(twin, STEPS, "--record-working-set", "5")
    # One of each after the other, so that a machine that is busy for a while is so for all of them.
    for _ in range(runs):
        folder, seconds = restore(recipe)
        restores.append(seconds)
        file.append(start_from_file(recipe, folder, STEPS, "file"))
        shutil.rmtree(folder)
        results.append(start(recipe, "server", STEPS, wants_blocktime=True))
        mounted.append(mounts(twin, STEPS))
        tool.drop_from_memory()
        cold.append(start(recipe, "server", STEPS, wants_blocktime=True))
        tool.warm()
    restored = statistics.median(result["work"] for result in file)
    before = statistics.median(restores)
    both = before + restored

    def median(results, key):
        return statistics.median(result[key] for result in results)

    def add(what, seconds, goal="", beside=""):
        rows.append(
            Row(
                f"{label}: {what}",
                f"{seconds:.2f} s",
                goal,
                beside or f"{seconds / restored:.2f} × restored, {seconds / both:.2f} × restore and start",
                seconds=seconds,
                group=f"until {STEPS} steps of the guest's work are done",
            )
        )

    for what, seconds in (
        ("restore, before a VM can run", before),
        ("then `migrate-incoming` to RESUME", median(file, "resume")),
    ):
        rows.append(
            Row(f"{label}: {what}", milliseconds(seconds), seconds=seconds, group="until the guest runs")
        )
    add(f"{STEPS} steps of its work, from a RAM file that is already restored", restored, "", " ")
    add("the same, restore and then start", both, "", " ")
    add("the same, postcopy with working set", median(results, "work"),
        "≤ 0.9 × restored, ≤ 0.5 × restore and start")
    add("the same, its working set from a cold store", median(cold, "work"))
    add("the same, postcopy without working set", median(pushed, "work"))
    add("the same, while the working set is recorded", first["work"])
    add("the same, from a mount with working set", statistics.median(mounted),
        "≤ 0.9 × restored, ≤ 0.5 × restore and start")
    add("the same, from a mount while it is recorded", mounted_first)
    rows.append(Row(f"{label}: working set", f"{set_pages} pages, {mib(set_pages * 4096)}"))
    for what, found, goal in (("warm", results, "≤ 10 ms"), ("cold", cold, "≤ 100 ms")):
        blocked = [result["vcpu_blocktime"] for result in found]
        rows.append(
            Row(
                f"{label}: vCPU block time with working set, {what} store",
                f"{statistics.median(blocked):.0f} ms (worst {max(blocked)} ms)",
                goal,
                f"{first['vcpu_blocktime']} ms while it is recorded",
            )
        )
    asked = first["report"]["requests"]
    left = median([result["report"] for result in results], "requests")
    rows.append(
        Row(
            f"{label}: requests left with working set",
            f"{left / max(asked, 1) * 100:.1f} % ({left:.0f} of {asked})",
            "≤ 2 %",
        )
    )
    peak = max(result["peak"] for result in results + pushed + [first])
    rows.append(
        Row(f"{label}: memory of a postcopy server", mib(peak), server_memory_goal(recipe.byte_count))
    )


def measure_latency(recipe, rows):
    """Pages that QEMU asks for, by its own trace, and the rate of the background."""
    label, tool = recipe.name, recipe.tool
    tool.forget_working_set(label)
    for what, options in (
        ("quiet", (*UNRECORDED, "--no-prefetch")),
        ("while pushing", UNRECORDED),
    ):
        log = recipe.place("trace")
        trace = ["-trace", "postcopy_ram_fault_thread_request", "-trace", "postcopy_place_page*"]
        trace += ["-D", log, "-msg", "timestamp=on"]
        result = start(recipe, "server", STEPS, options, trace)
        times = placed(log)
        beside = ""
        if "report" in result:
            seconds = [result["report"][f"request_seconds_p{part}"] or 0 for part in (50, 99)]
            beside = f"in the server {seconds[0] * 1e6:.0f} / {seconds[1] * 1e6:.0f} µs"
        rows.append(
            Row(
                f"{label}: page asked for by QEMU, by extents, {what}, p50 / p99",
                latency(times),
                "≤ 400 / 1300 µs",
                f"{len(times)} requests{', ' + beside if beside else ''}",
            )
        )
        os.remove(log)
    result = start(recipe, "server", 0, UNRECORDED, ("-S",))
    seconds = result["report"]["seconds_to_sent"]
    rows.append(
        Row(
            f"{label}: all RAM by postcopy in the background, zeros counted",
            f"{recipe.byte_count / MIB / seconds:.0f} MiB/s",
            "≥ 400 MiB/s",
            f"{seconds:.2f} s",
        )
    )


def measure_kills(recipe, rows):
    """Guests that `vmckpt resume` runs, whose servers are killed: the first while nothing is pushed, those that take
    it up while they push."""
    generator, stalls, usual, wrong = random.Random(4), [], [], False
    recipe.tool.forget_working_set(recipe.name)
    while len(stalls) < KILLS:
        killed, steps = kill_servers(recipe, min(KILLS_OF_GUEST, KILLS - len(stalls)), generator)
        gaps = [later[0] - earlier[0] for earlier, later in zip(steps, steps[1:])]
        usual.append(statistics.median(gaps))
        # A step that was under way, or began soon after, took so much longer than another.
        for when in killed:
            touched = [gap for gap, end in zip(gaps, steps[1:]) if when <= end[0] and end[0] - gap <= when + 0.5]
            stalls.append(max(0.0, max(touched, default=0) - usual[-1]))
        numbers = [number for _, number, _ in steps]
        wrong = wrong or numbers != list(range(numbers[0], numbers[0] + len(numbers)))
        wrong = wrong or any(nonce != recipe.nonce for _, _, nonce in steps)
        recipe.tool.forget_working_set(recipe.name)
    rows.append(
        Row(
            f"`kill -9` of a postcopy server, {KILLS} times: longest wait, median / worst",
            f"{statistics.median(stalls) * 1000:.0f} / {max(stalls) * 1000:.0f} ms, "
            + ("WRONG STEPS" if wrong else "no wrong step"),
            "≤ 1000 ms, no wrong page",
            f"a step takes {statistics.median(usual) * 1000:.0f} ms",
        )
    )


def kill_servers(recipe, count, generator):
    """Kills up to so many servers of one guest; returns when, and the guest's steps."""
    tool, place = recipe.tool, recipe.place("killed")
    command = tool.command("resume", recipe.name, "--lazy", "postcopy", "--record-working-set", "600", "--json")
    guest = Process(command, place, {"VMCKPT_WORKING_DIRECTORY": place})
    guest.wait_for_steps(3)
    pids, killed = set(), []

    def server_or_end():
        """The next server; -1 when QEMU has all pages, and nobody serves."""
        found = set(processes("serve", "--qemu", tool.store)) - pids
        if found:
            return min(found)
        return -1 if killed and not tool.json("lease", "list")["leases"] else None

    for _ in range(count):
        pid = wait_until("a server", server_or_end)
        if pid < 0:
            break
        time.sleep(generator.uniform(0, 0.3))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        pids.add(pid)
        killed.append(time.time())
    guest.wait_for_steps(len(guest.steps()) + 3)
    steps = guest.steps()
    guest.process.send_signal(signal.SIGTERM)
    guest.process.wait(60)
    guest.kill()
    return killed, steps
