"""The doors `resume` of the part `serving`: `vmckpt resume` of a small machine in a real QEMU, when calls of it or of
its server fail, or when it, a server or QEMU is killed.

Either it ends with an exit code and a message, and leaves nothing; or the guest runs, and gets all of its pages.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import time
from pathlib import Path

import guests
import machine
from attempt import WAIT_SECONDS, Attempt, kill, processes
from harness import Worker
from machine import Machine
from mounts import abort
from oracle import DOCUMENTED, orderly
from shim import in_child
from stores import Stores, must
from tool import SECONDS_MAX, Result, Tool

STORE = "resume"
SNAPSHOT = "r/1"
_WAYS = {"resume": "postcopy", "resume-server": "postcopy", "resume-mount": "mount", "resume-none": "none"}
# How long what a process leaves may take to go after it.
_END_SECONDS = 30.0
_POLL_SECONDS = 0.02
# How long a guest may wait for a server whose calls all fail, until that is replaced.
_FAULT_SECONDS = 5.0
# How long a QEMU that a killed resume leaves may take to get its pages by itself.
_LEFT_SECONDS = 3.0
# What QEMU and resume say while all is well.
_NOTICES = (b"vmckpt: resuming ", b"qemu-system-x86_64: terminating on signal")


def doors(can_mount: bool) -> tuple[list[str], str]:
    """What can be tested here, and why the rest cannot: asked of the kernel and not of the binary."""
    if not machine.is_there():
        return [], f"{machine.PROGRAM} is missing"
    libc = ctypes.CDLL(None)
    # What a postcopy migration needs, and containers forbid.
    descriptor = libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
    may_postcopy = descriptor >= 0 and libc.munlockall() == 0
    if descriptor >= 0:
        os.close(descriptor)
    made = ["resume-none"] + (["resume-mount"] if can_mount else [])
    made += ["resume", "resume-server"] if may_postcopy else []
    return made, "" if may_postcopy else "userfaultfd cannot be used here"


def prepare(stores: Stores, tool: Tool) -> None:
    """The store `main`, and in it a small machine that runs."""
    place = stores.home / STORE
    if not place.exists():
        shutil.copytree(stores.home / "main", place)
        saved = stores.home / "saved"
        saved.mkdir()
        process, running = machine.start(saved, stores.home)
        try:
            line = ["save", f"qemu:{saved}/qmp", "--vm", "r", "--name", SNAPSHOT, "--leave-stopped"]
            must(tool.run(line, place, **_state(stores)), "save")
        finally:
            running.close()
            process.kill()
            process.wait()
    if SNAPSHOT not in stores.golden:
        ram = must(tool.run(["restore", SNAPSHOT, "-o", "-"], place), SNAPSHOT).out
        wrong = machine.differences(ram, machine.ram())
        if wrong or not machine.count(ram):
            raise RuntimeError(f"without a fault, a machine is not saved as it is: {wrong}")
        stores.golden[SNAPSHOT] = ram


def _state(stores: Stores) -> dict[str, str]:
    """Where the key is that proves who recorded a command line."""
    return {"XDG_STATE_HOME": str(stores.home / "state")}


def serve(attempt: Attempt, door: str) -> list[str]:
    """Resumes the machine, and once more where it did not come to run."""
    resumed = Resumed(attempt, door)
    try:
        failures = resumed.run()
    finally:
        resumed.end()
    if not resumed.was_right and not failures:
        again = Resumed(Attempt(attempt.worker, attempt.source), door)
        try:
            failures = [f"stuck: afterwards, {failure}" for failure in again.run()]
            if not failures and not again.was_right:
                failures = [f"stuck: afterwards, resume ends with {again.result.line}"]
        finally:
            again.end()
    return failures


class Resumed:
    """A `vmckpt resume`, its QEMU and its servers."""

    def __init__(self, attempt: Attempt, door: str):
        self.attempt, self.door = attempt, door
        self.worker: Worker = attempt.worker
        self.way = _WAYS[door]
        self.result: Result | None = None
        # Whether the guest ran, and all of its pages were right.
        self.was_right = False
        self._failures: list[str] = []
        self._qemus: set[int] = set()
        self._struck: set[int] = set()
        self._guest: Machine | None = None
        self._place = self._fresh("g")
        self._temporary = self._fresh("t")
        self._victim = "server"
        if attempt.kills:
            self._victim = attempt.source.choice(("server", "server", "server", "resume", "qemu"))
        variables = _state(self.worker.stores) | {
            "TMPDIR": str(self._temporary),
            "VMCKPT_WORKING_DIRECTORY": str(self._place),
        }
        if door == "resume-server" and attempt.variables:
            variables |= in_child("serve", attempt.folder / "first")
        self._report = self.worker.scratch_report()
        if attempt.fault:
            variables["VMFAULTS_REPORT"] = str(self._report.path)
        # A server that has no other way waits. The next one has no fault.
        self._waits_itself = attempt.lasts and door == "resume-server"
        self._lasts = attempt.lasts and not self._waits_itself
        self._has_waited = False
        # While touches are recorded, the background waits, and the guest needs its server.
        self._strikes_once = door == "resume" and bool(attempt.variables)
        seconds = "1" if self._strikes_once or attempt.source.random() < 0.5 else "0"
        line = ["resume", SNAPSHOT, "--lazy", self.way, "--record-working-set", seconds]
        self._process = attempt.start(line, **variables)

    def _fresh(self, name: str) -> Path:
        place = self.attempt.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    # Processes

    def _own(self) -> dict[int, list[bytes]]:
        """What runs in the case's folder, or has it among its arguments."""
        folder = str(self.attempt.folder)
        found = {}
        for pid, words in processes():
            try:
                here = os.readlink(f"/proc/{pid}/cwd")
            except OSError:
                continue
            if words and (f"{here}/".startswith(f"{folder}/") or any(folder.encode() in word for word in words)):
                found[pid] = words
        return found

    def _look(self) -> dict[int, list[bytes]]:
        own = self._own()
        for pid, words in own.items():
            if words[0].endswith(machine.PROGRAM.encode()):
                self._qemus.add(pid)
        return own

    def _servers(self) -> list[int]:
        """Who gives the guest its pages; of a mount also who looks after that."""
        word = b"serve" if self.way == "postcopy" else b"mount"
        return [
            pid
            for pid, words in self._own().items()
            if word in words[1:3] and pid not in self._struck and pid != self._process.process.pid
        ]

    # The course of it

    def run(self) -> list[str]:
        """Waits for the guest, strikes, and judges what comes of it."""
        attempt = self.attempt
        if attempt.kills and (self._victim != "server" or attempt.source.random() < 0.3):
            # At any moment, also before the guest runs.
            time.sleep(attempt.source.uniform(0, 0.5))
            self._strike()
        limit = WAIT_SECONDS if self._lasts else SECONDS_MAX
        if self._wait("running", time.monotonic() + limit):
            for _ in range(3 if attempt.kills and self._victim == "server" else self._strikes_once):
                time.sleep(attempt.source.uniform(0, 0.1))
                self._strike()
            limit = _FAULT_SECONDS if self._waits_itself else limit
            if self._wait("completed", time.monotonic() + limit) or self._is_completed_by_another():
                self._compare()
        is_left = not self._process.has_ended(0)
        if is_left and self._guest and not self.was_right:
            # It may wait for ever. Asked to end, QEMU would have to be waited for, whose vCPU waits for a page.
            self._kill_qemu()
        elif is_left:
            kill(self._process.process.pid, signal.SIGTERM)
        # A QEMU that a killed resume leaves has its output.
        leaves_qemu = self._process.has_ended(0) and bool(self._qemus & set(self._look()))
        self.result = self._process.finish_at_once() if leaves_qemu else self._process.finish()
        self._judge(is_left)
        self._look()
        if len(self._qemus) > 1:
            self._failures.append(f"wrong: {len(self._qemus)} QEMUs run for one resume")
        return self._failures

    def _is_completed_by_another(self) -> bool:
        """Kills a server that waits because all of its calls fail: another one takes its place, without that fault."""
        if not self._waits_itself:
            return False
        # That a lock is waited for is said after a minute.
        self._has_waited = self.attempt.fault.kind != "lock" and self._report.read()[1] > 0
        self._strike()
        return self._wait("completed", time.monotonic() + SECONDS_MAX)

    def _kill_qemu(self) -> None:
        self._look()
        for pid in self._qemus:
            kill(pid)
        self._struck |= self._qemus

    def _strike(self) -> None:
        if self._victim == "qemu":
            return self._kill_qemu()
        victims = self._servers() if self._victim == "server" else [self._process.process.pid]
        # Never all processes of a mount at once: that ends it.
        if victims and (self.way != "mount" or self._victim == "resume" or len(victims) > 1):
            pid = self.attempt.source.choice(sorted(victims))
            kill(pid)
            self._struck.add(pid)

    def _wait(self, for_what: str, deadline: float) -> bool:
        """Waits until the guest runs, or also QEMU has all pages; whether that came."""
        while time.monotonic() < deadline:
            own = self._look()
            # One that was killed may leave a QEMU.
            if self._process.has_ended(0) and not self._qemus & set(own):
                return False
            try:
                if self._guest is None:
                    self._guest = Machine(self._place)
                self._guest.wait_at_most(max(0.1, deadline - time.monotonic()))
                if self._guest.state == "running" and (
                    for_what == "running" or self._guest.migration == "completed"
                ):
                    return True
            except OSError:
                # It does not listen yet, or is gone.
                pass
            time.sleep(_POLL_SECONDS)
        return False

    def _compare(self) -> None:
        """Looks at all of the guest's RAM, and whether it goes on."""
        saved = self.worker.stores.golden[SNAPSHOT]
        try:
            seen = self._guest.ram()
            deadline = time.monotonic() + SECONDS_MAX
            while machine.count(self._guest.ram()) == machine.count(seen):
                if time.monotonic() > deadline:
                    self._failures.append("stuck: a guest that was resumed does not go on")
                    return
                time.sleep(0.002)
        except OSError:
            # QEMU was killed, or ended; what is said of that is judged.
            return
        self._failures += machine.differences(seen, saved)
        if machine.count(seen) < machine.count(saved):
            self._failures.append("wrong bytes: a guest begins before its snapshot")
        self.was_right = not self._failures

    # What must hold

    def _judge(self, is_left: bool) -> None:
        result, fault = self.result, self.attempt.fault
        if guests.SECRET.encode() in result.err:
            self._failures.append("secret: a guest's bytes on standard error")
        was_killed = result.code == -signal.SIGKILL and not result.timed_out
        if was_killed and (self._victim == "resume" or (fault and fault.is_kill)):
            self._judge_left_guest()
        else:
            self._judge_end(is_left)
        self._judge_nothing_left()

    def _judge_end(self, is_left: bool) -> None:
        """It was ended, or has ended itself: with the code that is documented for that, and with words."""
        result = self.result
        if self.was_right:
            if result.code != 0 or result.timed_out:
                self._failures.append(f"wrong code: the guest ran, and was ended: {result.line}")
            warnings = [line for line in result.err.splitlines() if b"warning" in line and b"killed" not in line]
            if self._has_waited and not warnings:
                self._failures.append(f"words: a guest waits for its pages, and nothing was said: {result.line}")
            return
        if self._failures:
            return
        lines = [line for line in result.err.splitlines(True) if not line.startswith(_NOTICES)]
        if is_left and not self._lasts:
            self._failures.append(f"hang: a guest does not run, or does not get its pages: {result.line}")
        elif is_left and self._guest and not lines:
            self._failures.append(f"words: a guest waits for its pages, and nothing was said: {result.line}")
        elif result.code == 137 and self._struck & self._qemus:
            # QEMU's end, which nobody has to explain.
            return
        elif self._broke_recovery() and result.code == 139 and b"by signal 11" in result.err:
            # QEMU 7.2 crashes when the connection of a recovery breaks at once; resume says how it ended.
            return
        elif result.code == 1 and lines:
            # QEMU's own, which got no guest.
            return
        elif result.code in (143, -signal.SIGTERM, 0) and is_left and not result.timed_out:
            return
        else:
            own = [line for line in lines if not line.startswith(b"qemu-system")]
            ending = Result(result.code, b"", b"".join(own), result.timed_out)
            self._failures += orderly(ending, DOCUMENTED - {0})

    def _broke_recovery(self) -> bool:
        fault = self.attempt.fault
        breaks = self.door == "resume" and fault is not None and fault.kind == "message"
        return breaks and b"the server of the guest's pages was killed" in self.result.err

    def _judge_left_guest(self) -> None:
        """A killed resume leaves its QEMU, which gets its pages, or ends where it had not the guest yet."""
        is_lost = False
        if not self.was_right and self._wait("completed", time.monotonic() + _LEFT_SECONDS):
            self._compare()
        if not self.was_right and self._qemus & set(self._own()):
            # Its server may have been killed before.
            line = ["serve", SNAPSHOT, "--qemu", "--recover", str(self._place / "qmp")]
            recovery = self.worker.tool.run(line, self.attempt.folder)
            # A QEMU whose vCPU waits for a page may not answer.
            is_lost = recovery.code == 69
            if self._wait("completed", time.monotonic() + (_LEFT_SECONDS if is_lost else _END_SECONDS)):
                self._compare()
        if not self.was_right and not is_lost and self._qemus & set(self._own()):
            self._failures.append("stuck: a killed resume leaves a QEMU that does not get its pages, and does not end")
        self._kill_qemu()
        self._wait_for_mount_user()
        # As the article Serving says.
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(exist_ok=True)

    def _wait_for_mount_user(self) -> None:
        """Takes away the mount of a killed resume, whose QEMU is gone."""
        deadline = time.monotonic() + _END_SECONDS
        while self._qemus & set(self._own()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for place in self._mounts():
            self.worker.tool.run(["unmount", place, "--lazy"], self.attempt.folder)

    def _mounts(self) -> list[str]:
        places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [place for place in places if place.startswith(f"{self.attempt.folder}/")]

    def _judge_nothing_left(self) -> None:
        deadline = time.monotonic() + _END_SECONDS
        while self._own() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        for words in self._own().values():
            self._failures.append(f"left: a process {b' '.join(words[:2]).decode()} ({self.result.line})")
        if self._mounts():
            self._failures.append(f"left: a mount ({self.result.line})")
        if b"cannot remove the temporary directory" not in self.result.err:
            for path in self._temporary.iterdir():
                self._failures.append(f"left: {path.name.split('.')[0]} in TMPDIR ({self.result.line})")
        tool, folder = self.worker.tool, self.attempt.folder
        listed = must(tool.run(["lease", "list", "--json"], folder), "lease list")
        for lease in json.loads(listed.out)["leases"]:
            if self._lasts:
                # Who cannot even open the store gives nothing back.
                must(tool.run(["lease", "drop", str(lease["id"])], folder), "lease drop")
            else:
                self._failures.append(f"left: a lease of {lease['door']} ({self.result.line})")

    def end(self) -> None:
        """Ends what should have ended."""
        if self._guest:
            self._guest.close()
        # Who looks after others first: it would start another one.
        for pid in sorted(self._own()):
            kill(pid)
        for place in self._mounts():
            abort(Path(place))
