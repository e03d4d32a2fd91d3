"""Cases, the workers that run them, and the counts."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import signal
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Iterable

from shim import Report
from stores import Stores
from tool import Tool


@dataclass
class Plan:
    """How much is to be done."""

    form: str
    seed: int
    deadline: float | None = None

    def pick(self, short: int, default: int, long: int) -> int:
        return {"short": short, "default": default, "long": long}[self.form]

    def sample(self, items: list, count: int) -> list:
        """`count` of the items, the same ones for the same seed, in their order."""
        if count >= len(items):
            return items
        chosen = random.Random(f"{self.seed} sample").sample(range(len(items)), count)
        return [items[index] for index in sorted(chosen)]


@dataclass
class Worker:
    """What a case has at hand: the binary, prepared stores, and a folder of its own."""

    tool: Tool
    stores: Stores
    folder: Path
    seed: int
    cache: dict = field(default_factory=dict)

    def scratch_report(self) -> Report:
        """A file in which the shim of another process counts."""
        return Report(self.folder.with_name("counted"))


@dataclass
class Outcome:
    """What a case found. `checks` is how many things it tried: kills, states, calls."""

    case: str
    failures: list[str] = field(default_factory=list)
    checks: int = 1
    note: str = ""


@dataclass
class Tally:
    """The counts of a part."""

    part: str
    passed: int = 0
    failed: int = 0
    planned: int = 0
    checks: int = 0
    seconds: float = 0.0
    # Failures that read alike, each with how to repeat it.
    groups: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


_worker: Worker | None = None
_part: ModuleType | None = None


def make_worker(home: Path, stores: Stores, binary: str, library: Path, seed: int) -> Worker:
    """A worker with a folder of its own below `home`."""
    scratch = home / f"worker-{os.getpid()}"
    scratch.mkdir(exist_ok=True)
    return Worker(Tool(binary, library, scratch), stores, scratch / "case", seed)


def _begin(arguments: tuple, part: ModuleType) -> None:
    global _worker, _part
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _worker, _part = make_worker(*arguments), part


def run_case(part: ModuleType, case: str, worker: Worker) -> Outcome:
    """Runs one case; an error of the harness itself is a failure, too."""
    shutil.rmtree(worker.folder, ignore_errors=True)
    worker.tool.extra = {}
    try:
        return part.run(case, worker)
    except Exception:
        text = traceback.format_exc().strip().replace("\n", " | ")
        return Outcome(case, [f"harness: {text[-700:]}"])


def _run(case: str) -> Outcome:
    return run_case(_part, case, _worker)


def run_part(
    part: ModuleType, name: str, cases: list[str], arguments: tuple, jobs: int, plan: Plan
) -> Tally:
    """Runs all cases on `jobs` processes and prints each failure with how to repeat it."""
    tally = Tally(name, planned=len(cases))
    began = time.monotonic()
    for outcome in outcomes(part, cases, arguments, jobs, plan):
        tally.checks += outcome.checks
        if not outcome.failures:
            tally.passed += 1
            continue
        tally.failed += 1
        again = f"Scripts/faults --part {name} --seed {plan.seed} --case '{outcome.case}'"
        for failure in outcome.failures:
            tally.groups.setdefault(_group(failure), []).append((failure, again))
            print(f"FAILED {failure}  {again}", flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def _group(failure: str) -> str:
    """What failures of one cause have in common: their words without names and numbers."""
    kind = re.search(
        r"\b(wrong|hang|crash|code|words|secret|lost|ghost|unsound|stuck|left|memory|unseen)\b",
        failure,
    )
    failure = failure[kind.start() :] if kind else failure
    text = re.sub(r'"[^"]*"|[0-9a-f]{8}-[0-9a-f-]+|0x[0-9a-f]+', "", failure)
    text = re.sub(r"(?<!exit )(?<!signal )\b\d+\b", "", re.sub(r"\b[a-dmnxy]/\w+", "", text))
    return text[:120]


def outcomes(
    part: ModuleType,
    cases: list[str],
    arguments: tuple,
    jobs: int,
    plan: Plan,
    keeps_order: bool = False,
) -> Iterable[Outcome]:
    # In any order, so that one that is cut short has seen something of everything.
    if not keeps_order:
        random.Random(plan.seed).shuffle(cases)
    with multiprocessing.Pool(jobs, _begin, (arguments, part)) as pool:
        for outcome in pool.imap_unordered(_run, cases):
            yield outcome
            if plan.deadline and time.monotonic() > plan.deadline:
                pool.terminate()
                return
