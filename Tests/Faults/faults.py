"""Runs the parts of the fault harness; see README.md. Called by Scripts/faults."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import harness
from stores import Stores
from tool import Tool

PARTS = ("calls", "power", "kills", "flips", "rows", "inputs", "serving", "remotes", "mutants")


def arguments() -> argparse.Namespace:
    """The command line, as Scripts/faults documents it."""
    parser = argparse.ArgumentParser(prog="Scripts/faults")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", dest="form", action="store_const", const="short")
    form.add_argument("--long", dest="form", action="store_const", const="long")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--case")
    parser.add_argument("--shard", type=shard, default=(1, 1))
    parser.add_argument("--only", type=re.compile)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--mutant", action="store_true")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--library", type=Path, required=True)
    parsed = parser.parse_args()
    if parsed.case and len(parsed.part or ()) != 1:
        parser.error("--case needs one --part")
    return parsed


def shard(text: str) -> tuple[int, int]:
    """`2/8`: the second of eight parts."""
    index, count = (int(number) for number in text.split("/"))
    if not 1 <= index <= count:
        raise ValueError(text)
    return index, count


def work_folder() -> Path:
    """A folder of this run, in memory where that is possible."""
    shared = Path("/dev/shm")
    base = shared if os.access(shared, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="vmckpt-faults.", dir=base)).resolve()


def run(options: argparse.Namespace, home: Path) -> int:
    """Prepares stores, runs the parts, and prints the table."""
    began = time.monotonic()
    plan = harness.Plan(options.form or "default", options.seed)
    stores = Stores(home / "stores")
    worker_arguments = (home, stores, options.binary, options.library, options.seed)
    worker = harness.make_worker(*worker_arguments)
    stores.home.mkdir()
    stores.prepare(worker.tool)

    if options.case:
        part = importlib.import_module(options.part[0])
        outcome = harness.run_case(part, options.case, worker)
        for failure in outcome.failures:
            print(f"FAILED {failure}")
        print(f"{options.case}: {'failed' if outcome.failures else 'passed'} {outcome.note}")
        return 1 if outcome.failures else 0

    if options.mutant:
        return mutant(plan, worker, worker_arguments, options.jobs)

    tallies = []
    names = options.part or PARTS
    for index, name in enumerate(names):
        part = importlib.import_module(name)
        cases = part.cases(plan, worker)
        if options.only:
            cases = [case for case in cases if options.only.search(case)]
        if options.shard != (1, 1):
            index, count = options.shard
            # By name, so that a case stays in its shard whatever else there is.
            cases = [case for case in cases if zlib.crc32(case.encode()) % count == index - 1]
        if options.minutes:
            # What parts before did not use of their time goes to those that follow.
            left = began + options.minutes * 60 - time.monotonic()
            plan.deadline = time.monotonic() + max(1.0, left / (len(names) - index))
        print(f"{name}: {len(cases)} cases", flush=True)
        tallies.append(
            harness.run_part(part, name, cases, worker_arguments, options.jobs, plan)
        )
    return report(tallies)


def mutant(plan: harness.Plan, worker: harness.Worker, arguments: tuple, jobs: int) -> int:
    """Runs the loops of syncs on a binary with a defect, which must give wrong bytes there."""
    part = importlib.import_module("calls")
    cases = [case for case in part.cases(plan, worker) if case.split()[1] in ("fsync", "fdatasync")]
    tally = harness.run_part(part, "calls", cases, arguments, jobs, plan)
    hurt = ("wrong bytes", "lost", "unsound")
    found = sum(len(group) for head, group in tally.groups.items() if head.startswith(hurt))
    print(f"faults: the mutant lost or changed snapshots {found} times in {len(cases)} cases")
    return 1 if found else 0


def report(tallies: list[harness.Tally]) -> int:
    """Prints what was done, and returns the exit code."""
    groups = [group for tally in tallies for group in tally.groups.values()]
    if groups:
        print("\nWhat failed, most often first, each with one that shows it:")
    for group in sorted(groups, key=len, reverse=True):
        print(f"{len(group):6}  {group[0][0][:150]}\n        {group[0][1]}")
    print(f"\n{'PART':8} {'CASES':>7} {'OF':>7} {'CHECKS':>8} {'FAILED':>7} {'SECONDS':>8}")
    for tally in tallies:
        done = tally.passed + tally.failed
        print(f"{tally.part:8} {done:7} {tally.planned:7} {tally.checks:8} {tally.failed:7}"
              f" {tally.seconds:8.0f}")
        if not done:
            tally.failed = 1
            print(f"FAILED nothing was done in part {tally.part}")
    passed = sum(tally.passed for tally in tallies)
    failed = sum(tally.failed for tally in tallies)
    print(f"faults: {passed} passed, {failed} failed")
    return 1 if failed else 0


def main() -> int:
    options = arguments()
    home = work_folder()
    # So that the folder and the workers go when a time limit ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(options, home)
    finally:
        unmount_below(home)
        shutil.rmtree(home, ignore_errors=True)


def unmount_below(home: Path) -> None:
    """Takes mounts away that an ended run has left; their servers end with them."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4]
        if place.startswith(f"{home}/"):
            for option in ("-f", "-l"):
                subprocess.run(["umount", option, place], capture_output=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
