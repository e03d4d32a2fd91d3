"""Part `serving`: a mount and a postcopy server whose calls fail, or that are killed, while they are read from.

Whoever reads gets right bytes, an error, or waits. Wrong bytes, and zeros in the place of data, are failures; so is a
reader that cannot go on when the fault is over.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import postcopy
from harness import Outcome, Plan, Worker
from oracle import StoreCheck, clear, orderly
from shim import ERRORS_FROM, ERRORS_ONCE, Fault, preloading
from stores import IMAGES, must
from tool import SECONDS_MAX, Running

# What servers do with the store. Memory is not among it: a server that gets none ends, as a kill ends it.
_KINDS = ("pread", "read", "open", "lock", "mmap")
_STORE = "serving"
_SNAPSHOTS = {"a/1": "a1.ram", "a/2": "a2.ram", "b/1": "b1.ram"}
_READER = Path(__file__).with_name("mounted.py")
# How long nothing may come until the reader takes it for a wait.
_STALL_SECONDS = 1.0
# How long a reader may wait while every call fails.
_WAIT_SECONDS = 3.0


def cases(plan: Plan, worker: Worker) -> list[str]:
    """A sample of the calls of each server; and kills at any moment."""
    _prepare(worker)
    made = []
    doors = ["postcopy"] + (["mount"] if _can_mount(worker) else [])
    if len(doors) == 1:
        print("serving: FUSE file systems cannot be mounted here: no cases of mounts")
    for door in doors:
        counts = _clean_counts(door, worker)
        faults = [
            f"{door} {Fault(kind, error, mode, nth)}"
            for kind in _KINDS
            for mode, errors in (("once", ERRORS_ONCE), ("from", ERRORS_FROM))
            for error in errors[kind]
            for nth in range(1, counts[kind] + 1)
        ]
        # A store that stays locked: the server waits, and must neither wait for itself nor be kept from its end.
        always = f"{door} {Fault('lock', 'EAGAIN', 'from', counts['lock'] * 3 // 4)}"
        made += [always] + plan.sample([each for each in faults if each != always], plan.pick(14, 150, 10**9))
        made += [f"{door} kill {index}" for index in range(plan.pick(5, 40, 1000))]
    return made


def run(case: str, worker: Worker) -> Outcome:
    """Serves with a fault, and looks at what was read, at what was said, and at the store."""
    door, rest = case.split(" ", 1)
    _prepare(worker)
    clear(worker.folder)
    worker.stores.copy(_STORE, worker.folder)
    source = random.Random(f"{worker.seed} {case}")
    serve = {"mount": _mount, "postcopy": _postcopy}[door]
    fault = None if rest.startswith("kill ") else Fault.parse(rest)
    failures = serve(worker, source, fault)
    check = StoreCheck(worker.tool, worker.folder, worker.stores.golden)
    failures += check.run({"a/1", "a/2", "b/1", "p/1"}, saves=False)
    return Outcome(case, failures)


def _prepare(worker: Worker) -> None:
    """The store `main`, and in it a guest of QEMU's."""
    stores = worker.stores
    place = stores.home / _STORE
    if not place.exists():
        shutil.copytree(stores.home / "main", place)
        line = ["save", "qemu-stream:p1.stream", "--vm", "p", "--name", "p/1"]
        must(worker.tool.run(line, place), "save")
    stores.golden["p/1"] = IMAGES["p1.ram"]


def _clean_counts(door: str, worker: Worker) -> dict[str, int]:
    """How many calls of each kind a server makes without a fault. It must serve all."""
    worker.stores.copy(_STORE, worker.folder)
    report = worker.scratch_report()
    more = preloading(worker.tool.library, worker.folder, report.path)
    source = random.Random("clean")
    serve = {"mount": _mount, "postcopy": _postcopy}[door]
    failures = serve(worker, source, None, more, kills=False)
    if failures:
        raise RuntimeError(f"without a fault, {door} fails: {failures[0]}")
    return report.read()[0]


# Mounts


def _can_mount(worker: Worker) -> bool:
    """Whether root may mount here, which containers may forbid: asked of the kernel and not of the binary."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return False
    place = worker.folder.with_name("probe")
    place.mkdir(exist_ok=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    line = ["mount", "-i", "-t", "fuse", "-o", options, "probe", str(place)]
    done = subprocess.run(line, capture_output=True, pass_fds=(device,), check=False)
    if done.returncode == 0:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
    os.close(device)
    return done.returncode == 0


def _mount(
    worker: Worker,
    source: random.Random,
    fault: Fault | None,
    more: dict[str, str] | None = None,
    kills: bool = True,
) -> list[str]:
    """Reads all RAM through a mount, in any order."""
    tool, folder = worker.tool, worker.folder
    place = folder / "mnt"
    place.mkdir()
    if fault:
        more = preloading(tool.library, folder) | fault.environment()
    is_daemon = not fault and kills
    lasts = bool(fault and fault.mode == "from")
    try:
        line = ["mount", str(place)] + ([] if is_daemon else ["--foreground"])
        server = tool.start(line, folder, **(more or {}))
        if is_daemon:
            must(server.finish(), "mount")
        elif not _answers(place, server, _WAIT_SECONDS if lasts else SECONDS_MAX):
            if lasts and not server.has_ended(0):
                # It waits with the mount made, or for what every call refuses.
                server.kill()
                server.finish()
                return []
            return orderly(server.finish())
        strikes = [source.uniform(0, 0.15) for _ in range(4)] if is_daemon else []
        failures = _read_mount(worker, source, place, strikes, lasts)
        if not is_daemon:
            _kill(server.process.pid, signal.SIGTERM)
            result = server.finish(_WAIT_SECONDS if lasts else SECONDS_MAX)
            if result.code > 0:
                # It could not begin, said so, and took the mount away.
                failures = [each for each in failures if not each.startswith("stuck")]
            # A kill that was injected; or it waits for what every call refuses, and was ended for that.
            if not (lasts and result.timed_out) and (result.timed_out or result.code != -9):
                failures += orderly(result)
        return failures
    finally:
        if is_daemon:
            tool.run(["unmount", str(place), "--lazy"], folder)
            deadline = time.monotonic() + 60
            while _servers(place) and time.monotonic() < deadline:
                time.sleep(0.02)
        _kill_all(place)
        _abort(place)


def _answers(place: Path, server: Running, seconds: float) -> bool:
    """Waits until a mount is there, or its server has ended. To look into it might take for ever."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if f" {place} " in Path("/proc/self/mountinfo").read_text():
            return True
        if server.has_ended(0.01):
            return False
    return False


def _servers(place: Path, keepers: bool | None = None) -> list[int]:
    """The processes that serve a mount, or keep it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"mount" in words and str(place).encode() in words:
            if keepers is None or (b"__serve-keeper" in words) == keepers:
                found.append(int(entry.name))
    return found


def _kill_all(place: Path) -> None:
    # A keeper first: it would start another server.
    for pid in _servers(place, True) + _servers(place, False):
        _kill(pid)


def _abort(place: Path) -> None:
    """Takes a mount away, and gives an error to whoever waits for it."""
    for option in ("-f", "-l"):
        subprocess.run(["umount", option, str(place)], capture_output=True, check=False)


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _read_mount(
    worker: Worker, source: random.Random, place: Path, strikes: list[float], lasts: bool
) -> list[str]:
    """Another process reads, so that one that hangs can be ended."""
    files = {}
    for name, image in _SNAPSHOTS.items():
        seen = worker.folder / f"golden-{name[0]}{name[2]}"
        seen.write_bytes(worker.stores.golden[name])
        files[str(place / "by-name" / name / "ram")] = str(seen)
        files[str(place / "by-name" / name / "ram.bare")] = str(worker.stores.home / image)
    request = {"files": files, "seed": source.random(), "pause": 0.001 if strikes else 0}
    reader = subprocess.Popen(
        [sys.executable, str(_READER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    reader.stdin.write(json.dumps(request).encode())
    reader.stdin.close()
    reader.stdin = None
    for pause in strikes:
        time.sleep(pause)
        # Never both at once: that ends the mount.
        victims = _servers(place, source.random() < 0.3)
        if victims:
            _kill(victims[0])
            _wait_for_both(place)
    try:
        out, err = reader.communicate(timeout=_WAIT_SECONDS if lasts else SECONDS_MAX)
    except subprocess.TimeoutExpired:
        # The kernel lets it end only when its request has an answer, or nobody has the mount any more.
        reader.kill()
        _kill_all(place)
        try:
            reader.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            _abort(place)
            reader.communicate()
            return ["hang: a killed server of a mount does not end, nor does a reader"]
        return [] if lasts else ["hang: a reader of a mount waits"]
    if reader.returncode != 0:
        return [f"harness: the reader ends with {reader.returncode}: {err.decode()[-300:]}"]
    report = json.loads(out)
    failures = [f"wrong bytes: from a mount, {text}" for text in report["wrong"][:3]]
    if strikes and report["errors"]:
        failures.append(f"wrong: a killed server is an error to a reader: {report['errors'][:3]}")
    if not strikes and not lasts and report["stuck"]:
        failures.append(f"stuck: a page cannot be read after one fault: {report['stuck'][:3]}")
    return failures


def _wait_for_both(place: Path) -> None:
    """Waits until a mount has its server and its keeper again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if _servers(place, True) and _servers(place, False):
            return
        time.sleep(0.01)


# Postcopy


def _postcopy(
    worker: Worker,
    source: random.Random,
    fault: Fault | None,
    more: dict[str, str] | None = None,
    kills: bool = True,
) -> list[str]:
    """Is the QEMU that gets a guest, asks for pages in any order, and takes other servers when one is gone."""
    tool, folder = worker.tool, worker.folder
    if fault:
        more = preloading(tool.library, folder) | fault.environment()
    target = postcopy.Target(folder, IMAGES["p1.ram"], source)
    try:
        line = ["serve", "p/1", "--qemu", "--connect", "incoming", "--record-working-set", "0"]
        server = tool.start(line, folder, **(more or {}))
        limit = None
        for _ in range(6):
            if not fault and kills:
                limit = source.uniform(0, 0.25)
            target.serve(server, _STALL_SECONDS, limit)
            if target.is_complete:
                break
            was_killed = limit is not None or not server.has_ended(0.2)
            server.kill() if was_killed else None
            result = server.finish()
            if not was_killed:
                # An injected kill, or an error.
                if not (fault and fault.is_kill and result.code == -9):
                    target.failures += orderly(result)
            if not target.runs:
                # QEMU would end: there is no guest yet.
                return target.failures
            target.listen_for_recovery()
            server = tool.start(["serve", "p/1", "--qemu", "--recover", "qmp"], folder)
            limit = None
            if not target.take_recovery(server):
                return target.failures
            if fault or not kills:
                target.serve(server, SECONDS_MAX, None)
                break
        if not target.is_complete:
            target.serve(server, SECONDS_MAX, None)
        if not target.is_complete:
            target.failures.append("stuck: QEMU has not all pages, though nothing fails any more")
        server.has_ended(30) or server.kill()
        result = server.finish()
        if result.code != -9 or target.is_complete:
            target.failures += orderly(result)
        return target.failures + target.missing()
    finally:
        target.close()
        if server.process.poll() is None:
            server.kill()
            server.finish()
