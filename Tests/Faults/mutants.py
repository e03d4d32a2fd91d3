"""Part `mutants`: the harness must find what a defect does, or it proves nothing."""

from __future__ import annotations

import kills
import power
from harness import Outcome, Plan, Worker

# How many states or rounds a mutant may stay unseen.
_POWER_TRIES = 60
# A try finds it when the restore stops outside of a transaction, with chunks left to read.
_LOCK_TRIES = 40


def cases(plan: Plan, worker: Worker) -> list[str]:
    """The mutants that the shim makes of the binary under test."""
    return [f"no-sync {name}" for name in ("save", "restore", "chain")] + [
        f"no-lock {scenario}" for scenario in kills.LOCK_SCENARIOS
    ]


def run(case: str, worker: Worker) -> Outcome:
    """Passes when the defect was found."""
    mutant, name = case.split()
    return _no_sync(case, name, worker) if mutant == "no-sync" else _no_lock(case, name, worker)


def _no_sync(case: str, name: str, worker: Worker) -> Outcome:
    recording = power.record(name, worker, VMFAULTS_NO_SYNC="1")
    for attempt in range(_POWER_TRIES):
        found = power.crash(recording, f"{worker.seed} {case} {attempt}", worker)
        kills.clear(worker.folder)
        if found:
            return Outcome(case, checks=attempt + 1, note=f"found: {found[0]}")
    return Outcome(case, ["unseen: a binary that syncs nothing passes"], _POWER_TRIES)


def _no_lock(case: str, name: str, worker: Worker) -> Outcome:
    for attempt in range(_LOCK_TRIES):
        worker.tool.extra = {"VMFAULTS_NO_LOCK": "1"}
        found = kills.run(f"{name} {attempt}", worker).failures
        kills.clear(worker.folder)
        if found:
            return Outcome(case, checks=attempt + 1, note=f"found: {found[0]}")
    return Outcome(case, ["unseen: a binary that locks nothing passes"], _LOCK_TRIES)
