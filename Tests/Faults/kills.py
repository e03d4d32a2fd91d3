"""Part `kills`: kills at any moment beside readers and a second writer; and slow operations."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Outcome, Plan, Worker
from oracle import StoreCheck, clear, names_in, orderly
from shim import Fault, preloading
from stores import IMAGES
from tool import Result, Running

KILLS_IN_ROUND = 20
_SNAPSHOTS_MAX = 7
# Small ones, and some that share pages.
_KILLED_IMAGES = [name for name in sorted(IMAGES) if len(IMAGES[name]) < 1 << 19]
_PRESENT_AT_FIRST = {"a/1": "a1.ram", "a/2": "a2.ram", "b/1": "b1.ram"}


class Round:
    """Twenty kills of one store, and what must be in it by then."""

    def __init__(self, worker: Worker, seed: str):
        self.worker, self.source = worker, random.Random(seed)
        self.folder = worker.folder
        worker.stores.copy("main", self.folder)
        self.golden = dict(worker.stores.golden)
        self.present = set(_PRESENT_AT_FIRST)
        # Deletions that run now: what their snapshots become is not known.
        self.leaving: set[str] = set()
        self.coming: set[str] = set()
        self.failures: list[str] = []
        self.count = 0

    def operation(self) -> tuple[list[str], str, str, bytes | None]:
        """A command that writes: its line, what it saves, what it deletes, its input."""
        kind = self.source.choices(
            ("save", "pipe", "delete", "gc", "optimize", "tag"), (6, 2, 3, 2, 2, 1)
        )[0]
        if len(self.present) > _SNAPSHOTS_MAX:
            kind = "delete"
        leave = sorted(self.present - self.leaving)
        if kind in ("delete", "tag") and not leave:
            kind = "save"
        if kind in ("save", "pipe"):
            self.count += 1
            file = self.source.choice(_KILLED_IMAGES)
            name = f"{file[0]}/k{self.count}"
            self.golden[name] = IMAGES[file]
            self.coming.add(name)
            line = ["save", file if kind == "save" else "-", "--name", name, "--vm", file[0]]
            return line, name, "", IMAGES[file] if kind == "pipe" else None
        if kind == "delete":
            name = self.source.choice(leave)
            self.leaving.add(name)
            return ["delete", name], "", name, None
        if kind == "tag":
            return ["tag", self.source.choice(leave), f"n={self.count}"], "", "", None
        return [kind], "", "", None

    def strike(self) -> None:
        """Kills one command; others that run beside it must go on."""
        tool, source = self.worker.tool, self.source
        line, saves, deletes, data = self.operation()
        more = {}
        if source.random() < 0.4:
            nth = int(source.uniform(1, 14) ** 2)
            fault = Fault("io", source.choice(("kill-before", "kill-after")), "once", nth)
            more = preloading(tool.library, self.folder) | fault.environment()
        others = [(line, saves, deletes, data, None)]
        if source.random() < 0.5:
            others.append((*self.operation(), None))
        names = sorted(self.present - self.leaving)
        for _ in range(source.randrange(3)):
            if names and source.random() < 0.8:
                name = source.choice(names)
                others.append((["restore", name, "-o", "-"], "", "", None, name))
            else:
                others.append((["list", "--json"], "", "", None, None))
        running = []
        for number, other in enumerate(others):
            variables = more if number == 0 else {}
            running.append(tool.start(other[0], self.folder, other[3], **variables))
        # All are read from at once: a reader whose pipe is full holds its locks.
        with ThreadPoolExecutor(len(running)) as threads:
            results = threads.map(Running.finish, running)
            if not more:
                time.sleep(source.uniform(0.0, 0.06))
                running[0].kill()
            results = list(results)
        if results[0].code != -9 or results[0].timed_out:
            self.judge(results[0], *others[0])
        for result, other in zip(results[1:], others[1:]):
            self.judge(result, *other)
        self.settle()

    def judge(
        self, result: Result, line: list[str], saves: str, deletes: str, _: object, reads: str | None
    ) -> None:
        """A command that nobody killed."""
        codes = {0, 75}
        if reads and reads in self.leaving or line[0] == "tag":
            codes |= {66}
        for failure in orderly(result, codes):
            self.failures.append(f"{' '.join(line)}: {failure}")
        if result.code == 0 and saves:
            self.present.add(saves)
            self.coming.discard(saves)
        if result.code == 0 and deletes:
            self.present.discard(deletes)
            self.leaving.discard(deletes)
        if result.code == 0 and reads and result.out != self.golden[reads]:
            whose = StoreCheck(self.worker.tool, self.folder, self.golden).whose(reads, result.out)
            self.failures.append(f"wrong bytes: {whose}, with exit 0, beside a kill")

    def settle(self) -> None:
        """Asks the store what became of what was killed."""
        if not self.coming and not self.leaving:
            return
        result = self.worker.tool.run(["list", "--json"], self.folder)
        names = names_in(result) if result.code == 0 else None
        if names is None:
            self.failures.append(f"stuck: list after a kill {result.line}")
            return
        self.present |= self.coming & set(names)
        self.present -= self.leaving - set(names)
        self.coming.clear()
        self.leaving.clear()

    def check(self) -> None:
        """Looks at the whole store."""
        check = StoreCheck(self.worker.tool, self.folder, self.golden)
        self.failures += check.run(self.present, saves=False)


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Rounds of kills, and scenarios of slow operations."""
    rounds = plan.pick(8, 60, 10_000 // KILLS_IN_ROUND)
    tries = plan.pick(1, 5, 25)
    slow = [f"{name} {index}" for name in SCENARIOS for index in range(tries)]
    return slow + [f"round {index}" for index in range(rounds)]


def run(case: str, worker: Worker) -> Outcome:
    """A round, or a scenario."""
    name, index = case.split()
    clear(worker.folder)
    if name != "round":
        failures = SCENARIOS[name](Round(worker, f"{worker.seed} {case}"), int(index))
        return Outcome(case, failures)
    this = Round(worker, f"{worker.seed} {case}")
    for number in range(KILLS_IN_ROUND):
        this.strike()
        if number % 10 == 9:
            this.check()
        if this.failures:
            return Outcome(case, this.failures, number + 1)
    return Outcome(case, checks=KILLS_IN_ROUND)


from slow import LOCK_SCENARIOS, SCENARIOS  # noqa: E402  (slow.py needs Round)
