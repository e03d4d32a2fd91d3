"""Part `remotes`: kills, failing calls and pauses of pushes, pulls and collections by several hosts at once.

A round is twenty strikes at three stores that share a remote. A pause stops a push, or a collection, at one of its
calls on the remote, and lets others delete and collect meanwhile: what the rules of the protocol are for. After each
nothing that was pushed may be lost. The remote is a folder, or a server of VMCKPT_OBJECT_STORES.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import guests
from harness import Outcome, Plan, Worker
from oracle import clear, names_in, orderly
from shim import ERRORS_ONCE, Fault, Report, preloading
from tool import Result, Running

STRIKES_IN_ROUND = 20
LEASE_SECONDS = 1
MARGIN_SECONDS = 1
# A collection has given a silent push up by then, as whole seconds of the clock go.
_PATIENCE_SECONDS = LEASE_SECONDS + MARGIN_SECONDS + 1.5
# And has deleted what it may, also on a busy machine.
_COLLECTION_SECONDS = 15.0
# How often a command may be later than a lease that is so short.
_LATE_TRIES = 10
_LATE = b"took longer than the remote's lease"
_HOSTS = ("h0", "h1", "h2")
_FAULTS = [(kind, error) for kind in ("write", "pwrite", "fdatasync", "fsync", "rename", "unlink", "open")
           for error in ERRORS_ONCE[kind]]
VARIANTS = ("resumed", "given-up", "condemned", "collector")


def servers() -> dict[str, tuple[str, str, str]]:
    """The real servers that run: endpoint, file of credentials, bucket."""
    found = {}
    for word in os.environ.get("VMCKPT_OBJECT_STORES", "").split():
        name, _, rest = word.partition("=")
        parts = rest.split(",")
        if len(parts) == 3:
            found[name] = tuple(parts)
    return found


@dataclass
class Strike:
    """A command of one host, and what it is to change."""

    host: str
    line: list[str]
    pushes: str = ""
    deletes: str = ""


class Fleet:
    """Hosts with a store each, the remote that they share, and what must be there."""

    def __init__(self, worker: Worker, seed: str, server: str | None = None):
        self.worker, self.source = worker, random.Random(seed)
        self.folder = worker.folder
        clear(self.folder)
        self.folder.mkdir(parents=True)
        self.failures: list[str] = []
        self.golden: dict[str, bytes] = {}
        self.local: dict[str, set[str]] = {host: set() for host in _HOSTS}
        # In the remote for certain; and those of which a killed command may have made either.
        self.present: set[str] = set()
        self.coming: set[str] = set()
        self.leaving: set[str] = set()
        self.count = 0
        self.variables = {}
        if server:
            endpoint, credentials, bucket = servers()[server]
            self.address = f"s3://{bucket}/faults/{os.getpid()}-{time.monotonic_ns()}"
            self.place = [self.address, "--endpoint", endpoint]
            self.variables["AWS_SHARED_CREDENTIALS_FILE"] = credentials
        else:
            self.address = f"file://{self.folder}/remote"
            self.place = [self.address]
        for host in _HOSTS:
            verb = ["add"]
            if host == "h0":
                verb = ["init", "--lease-seconds", str(LEASE_SECONDS), "--margin-seconds", str(MARGIN_SECONDS)]
            self.must(host, ["remote", verb[0], *self.place, *verb[1:]])

    @property
    def remote(self) -> Path:
        return self.folder / "remote"

    # Running

    def start(self, host: str, line: list[str], **more: str) -> Running:
        (self.folder / host).mkdir(exist_ok=True)
        return self.worker.tool.start(
            line,
            self.folder,
            VMCKPT_STORE=f"{host}.db",
            XDG_STATE_HOME=str(self.folder / host),
            **(self.variables | more),
        )

    def run(self, host: str, line: list[str]) -> Result:
        return self.start(host, line).finish()

    def run_in_time(self, host: str, line: list[str]) -> Result:
        """Runs it again when it was later than its lease, as a busy machine or a stalled disk makes it."""
        for _ in range(_LATE_TRIES):
            result = self.run(host, line)
            if _LATE not in result.err:
                break
        return result

    def must(self, host: str, line: list[str]) -> Result:
        result = self.run_in_time(host, line)
        if result.code != 0 or result.timed_out:
            raise RuntimeError(f"without a fault, {' '.join(line)} fails: {result.line}")
        return result

    def fail(self, text: str) -> None:
        self.failures.append(text)

    # Snapshots

    def save(self, host: str, image: bytes) -> str:
        self.count += 1
        name = f"{host}/{self.count}"
        (self.folder / f"{host}.ram").write_bytes(image)
        self.golden[name] = image
        self.must(host, ["save", f"{host}.ram", "--name", name, "--vm", host])
        self.local[host].add(name)
        return name

    def image(self, base: int, own: int) -> bytes:
        """RAM with pages that other images of the same base have, and pages of its own."""
        pages = random.Random(f"base {base}").randbytes(40 * guests.PAGE)
        return pages + self.source.randbytes(own * guests.PAGE)

    # What is there

    def settle(self) -> None:
        """Asks the remote what became of what was killed, and whether all that must be there is."""
        result = self.run("h0", ["remote", "show", "--json"])
        names = names_in(result) if result.code == 0 else None
        if names is None:
            self.fail(f"stuck: remote show {result.line}")
            return
        for name in self.present - set(names):
            self.fail(f"lost: {name} is not in the remote any more")
        self.present = set(names) & (self.present | self.coming | self.leaving)
        self.coming.clear()
        self.leaving.clear()

    def check_remote(self) -> None:
        """Whether each snapshot that counts has all of its packs."""
        result = self.run("h0", ["remote", "check", "--read-data", "100", "--json"])
        if result.code != 0:
            self.fail(f"lost: remote check {result.line} {result.out[-300:]!r}")

    def check(self) -> None:
        """Collects, and looks at everything: the remote, what restores from it, and each store."""
        deadline = time.monotonic() + 90
        while True:
            result = self.run("h0", ["remote", "gc", "--json"])
            if result.code == 0 or time.monotonic() > deadline:
                break
        if result.code != 0:
            self.fail(f"stuck: remote gc {result.line}")
        self.settle()
        self.check_remote()
        reader = "reader"
        for file in self.folder.glob(f"{reader}.db*"):
            file.unlink()
        self.must(reader, ["remote", "add", *self.place])
        for name in sorted(self.present):
            result = self.run(reader, ["pull", name])
            if result.code != 0:
                self.fail(f"lost: pull {name} {result.line}")
                continue
            result = self.run(reader, ["restore", name, "-o", "-"])
            if result.code != 0 or result.out != self.golden[name]:
                self.fail(f"wrong bytes: {name} from the remote: {result.line}")
        for host in (*_HOSTS, reader):
            result = self.run(host, ["verify"])
            if result.code != 0:
                self.fail(f"unsound: {host}: {result.line}")
        for host, names in self.local.items():
            for name in self.source.sample(sorted(names), min(2, len(names))):
                result = self.run(host, ["restore", name, "-o", "-"])
                if result.code != 0 or result.out != self.golden[name]:
                    self.fail(f"wrong bytes: {name} of {host}: {result.line}")

    # Strikes

    def strike(self) -> None:
        """Several hosts at once, of whose commands one is killed, fails or is paused."""
        strikes = [self.command(host) for host in self.source.sample(_HOSTS, self.source.randint(2, 3))]
        kind = self.source.choice(("kill", "kill", "kill-at", "fault", "fault", "pause"))
        more = {}
        if kind != "kill":
            fault = Fault("io", "stop", "once", int(self.source.uniform(1, 14) ** 2))
            if kind == "kill-at":
                fault = Fault("io", self.source.choice(ERRORS_ONCE["io"]), "once", fault.nth)
            elif kind == "fault":
                fault = Fault(*self.source.choice(_FAULTS), "once", int(self.source.uniform(1, 7) ** 2))
            more = preloading(self.worker.tool.library, self.folder) | fault.environment()
        running = [
            self.start(strike.host, strike.line, **(more if number == 0 else {}))
            for number, strike in enumerate(strikes)
        ]
        with ThreadPoolExecutor(len(running)) as threads:
            ends = [threads.submit(one.finish) for one in running]
            if kind == "kill":
                time.sleep(self.source.uniform(0.0, 0.25))
                running[0].kill()
            elif kind == "pause":
                if running[0].wait_for_stop(2):
                    time.sleep(self.source.choice((0.2, 1.0, _PATIENCE_SECONDS)))
                # On a busy machine it may come to its stop only now.
                while not ends[0].done():
                    running[0].go_on()
                    time.sleep(0.05)
            results = [end.result() for end in ends]
        for number, (strike, result) in enumerate(zip(strikes, results)):
            killed = number == 0 and result.code == -signal.SIGKILL and kind in ("kill", "kill-at")
            self.judge(strike, result, killed)
        self.settle()

    def command(self, host: str) -> Strike:
        """What a host does next."""
        source = self.source
        kind = source.choices(("push", "delete", "gc", "fetch", "pull", "local"), (8, 3, 4, 1, 2, 1))[0]
        there = sorted(self.present - self.leaving)
        if kind == "delete" and there:
            name = source.choice(there)
            self.leaving.add(name)
            self.present.discard(name)
            return Strike(host, ["remote", "delete", name], deletes=name)
        if kind == "gc":
            more = ["--leave-waiting"] if source.random() < 0.3 else []
            return Strike(host, ["remote", "gc", *more])
        if kind == "fetch":
            return Strike(host, ["remote", "fetch"])
        if kind == "pull" and there:
            return Strike(host, ["pull", source.choice(there)])
        if kind == "local":
            return Strike(host, ["gc"])
        again = sorted(name for name in self.local[host] if name not in self.present | self.coming | self.leaving)
        if again and source.random() < 0.5:
            name = source.choice(again)
        else:
            name = self.save(host, self.image(source.randrange(3), source.randint(1, 30)))
        self.coming.add(name)
        return Strike(host, ["push", name], pushes=name)

    def judge(self, strike: Strike, result: Result, killed: bool) -> None:
        """A command that ended, and what is known then."""
        if killed:
            return
        for failure in orderly(result):
            self.fail(f"{' '.join(strike.line)}: {failure}")
        # A disk that fails may fail the lease as well; nothing may be called damaged for it.
        if result.code == 65:
            self.fail(f"code: {' '.join(strike.line)}: {result.line}")
        if result.code != 0:
            return
        if strike.pushes:
            self.coming.discard(strike.pushes)
            self.present.add(strike.pushes)
        if strike.deletes:
            self.leaving.discard(strike.deletes)

    # Pauses

    def paused(self, host: str, line: list[str], nth: int) -> Running | None:
        """Starts a command that stops before its `nth` call on the remote; nothing if it ended before."""
        more = preloading(self.worker.tool.library, self.remote) | Fault("io", "stop", "once", nth).environment()
        running = self.start(host, line, **more)
        return running if running.wait_for_stop(10) else self._ended(running)

    def _ended(self, running: Running) -> None:
        running.finish()

    def is_locked(self) -> bool:
        """Whether somebody has the remote's lock."""
        with open(self.remote / "~vmckpt" / "lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def resume(self, running: Running) -> Result:
        running.go_on()
        return running.finish()

    def collected_while_paused(self, variant: str, nth: int) -> bool:
        """A push that wants pages of a pack that is collected meanwhile.

        Whether it had so many calls.
        """
        base, old, new = self._old_and_new()
        if variant == "collector":
            return self._collector_paused(old, new, nth)
        if variant == "condemned":
            # A list of condemned packs, whose packs are there because of a push that was killed.
            other = self.save("h1", self.image(base + 1, 3))
            # Killed, since a push that only stops may hold the remote's lock, which a deletion needs.
            dead = self.paused("h1", ["push", other], 40)
            if dead:
                dead.kill()
                dead.finish()
            self.must("h2", ["remote", "delete", old])
            self.run("h2", ["remote", "gc", "--leave-waiting"])
        push = self.paused("h0", ["push", new], nth)
        if push is None:
            self.settle_push(new)
            return False
        # Who deletes and collects meanwhile waits for the remote's lock where the push has it.
        is_locked = self.is_locked()
        deletion = self.start("h2", ["remote", "delete", old]) if variant != "condemned" else None
        if deletion and not is_locked:
            deletion.finish()
        collector = self.start("h1", ["remote", "gc"])
        if is_locked:
            collector.has_ended(0.3)
        elif variant == "resumed":
            collector.has_ended(0.7)
        else:
            # The push is to be late, and what it needs deleted: on a busy machine that takes longer than the lease.
            collector.has_ended(_COLLECTION_SECONDS)
        result = self.resume(push)
        collected = collector.finish()
        if deletion and is_locked:
            deletion.finish()
        for failure in orderly(collected) + orderly(result, {0, 69, 75}):
            self.fail(f"{variant} {nth}: {failure}")
        if result.code == 0:
            self.present.add(new)
        self.settle_push(new)
        return True

    def _old_and_new(self) -> tuple[int, str, str]:
        """What their common pages are of, a snapshot that is pushed, and one that is to be pushed."""
        base = self.source.randrange(1 << 30)
        old = self.save("h0", self.image(base, 4))
        self.must("h0", ["push", old])
        return base, old, self.save("h0", self.image(base, 9))

    def push_call_count(self) -> int:
        """How many calls on the remote the push makes that `collected_while_paused` stops."""
        _, _, new = self._old_and_new()
        report = Report(self.folder / "report")
        more = preloading(self.worker.tool.library, self.remote, report.path)
        result = self.start("h0", ["push", new], **more).finish()
        if result.code != 0:
            raise RuntimeError(f"without a fault, push fails: {result.line}")
        return report.read()[0]["io"]

    def _collector_paused(self, old: str, new: str, nth: int) -> bool:
        self.must("h2", ["remote", "delete", old])
        collector = self.paused("h2", ["remote", "gc"], nth)
        if collector is None:
            return False
        push = self.start("h0", ["push", new])
        # It may need the lock that the collection has.
        push.has_ended(3)
        collected = self.resume(collector)
        result = push.finish()
        for failure in orderly(collected) + orderly(result, {0, 69, 75}):
            self.fail(f"collector {nth}: {failure}")
        if result.code == 0:
            self.present.add(new)
        self.settle_push(new)
        return True

    def settle_push(self, name: str) -> None:
        self.coming.add(name)
        self.settle()
        self.check_remote()

    def copied(self) -> None:
        """A remote that was copied has new times: nothing may be deleted before it is adopted."""
        name = self.save("h0", self.image(1, 5))
        self.must("h0", ["push", name])
        self.must("h0", ["remote", "gc"])
        self.present.add(name)
        time.sleep(LEASE_SECONDS + 1.1)
        # The record of its times.
        clear(self.remote / "~vmckpt")
        result = self.run("h1", ["remote", "gc"])
        if result.code not in (0, 69):
            self.fail(f"copied: {result.line}")
        adopted = self.run_in_time("h1", ["remote", "adopt"])
        if adopted.code != 0:
            self.fail(f"lost: adopt after a copy: {adopted.line}")
        self.settle()
        self.check()


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Rounds on a folder and on real servers, pauses at each call, and a copied remote."""
    rounds = [f"round {index}" for index in range(plan.pick(2, 10, 30))]
    rounds += [f"round {index} {server}" for server in servers() for index in range(plan.pick(0, 1, 15))]
    pauses = [f"{variant} {nth}" for variant in VARIANTS for nth in range(1, CALLS + 1)]
    return rounds + plan.sample(pauses, plan.pick(10, len(pauses), len(pauses))) + ["copied 0"]


# Calls of a small push, or of a collection, on the remote; some more, so that a change does not hide any.
CALLS = 260


def run(case: str, worker: Worker) -> Outcome:
    """A round, a pause or a copy."""
    name, index, *rest = case.split()
    fleet = Fleet(worker, f"{worker.seed} {case}", rest[0] if rest else None)
    if name == "copied":
        fleet.copied()
        return Outcome(case, fleet.failures)
    if name in VARIANTS:
        was_paused = fleet.collected_while_paused(name, int(index))
        return Outcome(case, fleet.failures, note="" if was_paused else "it had fewer calls")
    for number in range(STRIKES_IN_ROUND):
        fleet.strike()
        if fleet.failures:
            return Outcome(case, fleet.failures, number + 1)
    fleet.check()
    return Outcome(case, fleet.failures, STRIKES_IN_ROUND)
