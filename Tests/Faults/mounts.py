"""The door `mount` of the part `serving`: a mount is read from while its calls fail, or its processes are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from attempt import WAIT_SECONDS, Attempt, kill, processes
from harness import Worker
from oracle import orderly
from stores import must
from tool import SECONDS_MAX, Running

_SNAPSHOTS = {"a/1": "a1.ram", "a/2": "a2.ram", "b/1": "b1.ram"}
_READER = Path(__file__).with_name("mounted.py")


def can_mount(worker: Worker) -> bool:
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


def serve(attempt: Attempt) -> list[str]:
    """Reads all RAM through a mount, in any order."""
    worker, source, lasts = attempt.worker, attempt.source, attempt.lasts
    place = attempt.folder / "mnt"
    place.mkdir()
    is_daemon = attempt.kills
    try:
        line = ["mount", str(place)] + ([] if is_daemon else ["--foreground"])
        server = attempt.start(line)
        if is_daemon:
            must(server.finish(), "mount")
        elif not _answers(place, server, WAIT_SECONDS if lasts else SECONDS_MAX):
            if lasts and not server.has_ended(0):
                # It waits with the mount made, or for what every call refuses.
                server.kill()
                server.finish()
                return []
            return orderly(server.finish())
        strikes = [source.uniform(0, 0.15) for _ in range(4)] if is_daemon else []
        failures = _read_mount(worker, source, place, strikes, lasts)
        if not is_daemon:
            kill(server.process.pid, signal.SIGTERM)
            result = server.finish(WAIT_SECONDS if lasts else SECONDS_MAX)
            if result.code > 0:
                # It could not begin, said so, and took the mount away.
                failures = [each for each in failures if not each.startswith("stuck")]
            # A kill that was injected; or it waits for what every call refuses, and was ended for that.
            if not (lasts and result.timed_out) and (result.timed_out or result.code != -9):
                failures += orderly(result)
        return failures
    finally:
        if is_daemon:
            worker.tool.run(["unmount", str(place), "--lazy"], attempt.folder)
            deadline = time.monotonic() + 60
            while _servers(place) and time.monotonic() < deadline:
                time.sleep(0.02)
        _kill_all(place)
        abort(place)


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
    return [
        pid
        for pid, words in processes()
        if b"mount" in words
        and str(place).encode() in words
        and (keepers is None or (b"__serve-keeper" in words) == keepers)
    ]


def _kill_all(place: Path) -> None:
    # A keeper first: it would start another server.
    for pid in _servers(place, True) + _servers(place, False):
        kill(pid)


def abort(place: Path) -> None:
    """Takes a mount away, and gives an error to whoever waits for it."""
    for option in ("-f", "-l"):
        subprocess.run(["umount", option, str(place)], capture_output=True, check=False)


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
            kill(victims[0])
            _wait_for_both(place, victims[0])
    try:
        out, err = reader.communicate(timeout=WAIT_SECONDS if lasts else SECONDS_MAX)
    except subprocess.TimeoutExpired:
        # The kernel lets it end only when its request has an answer, or nobody has the mount any more.
        reader.kill()
        _kill_all(place)
        try:
            reader.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            abort(place)
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


def _wait_for_both(place: Path, victim: int) -> None:
    """Waits until a mount has its server and its keeper again, after one of them was killed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # One that is ending is still in the lists, and has the device for nobody.
        if _has_ended(victim) and _servers(place, True) and _servers(place, False):
            return
        time.sleep(0.01)


def _has_ended(pid: int) -> bool:
    """Whether no thread of it is left, and so nothing that it had open."""
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except OSError:
        # Some have gone meanwhile, or all of them.
        return not Path(f"/proc/{pid}").exists()
    return all(state in "ZX" for state in states)
