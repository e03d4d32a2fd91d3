"""Part `serving`: a mount, a postcopy server and a resume whose calls fail, or that are killed, while a guest has its
pages from them.

Whoever reads gets right bytes, an error, or waits. Wrong bytes, and zeros in the place of data, are failures; so is a
reader that cannot go on when the fault is over. The doors are in mounts.py, postcopy.py and resume.py.
"""

from __future__ import annotations

import random
import shutil
from functools import partial
from typing import Callable

import mounts
import postcopy
import resume
from attempt import Attempt
from harness import Outcome, Plan, Worker
from oracle import StoreCheck, clear
from shim import ERRORS_FROM, ERRORS_ONCE, Fault, preloading
from stores import IMAGES, must

_STORE = "serving"
_SNAPSHOTS = {"a/1", "a/2", "b/1"}
# What servers do with the store. Memory is not among it: a server that gets none ends, as a kill ends it.
_KINDS = ("pread", "read", "open", "lock", "mmap")
_OTHERS = ("pipe", "spawn", "socket", "message")
# Each door, and the calls of its that fail.
_DOORS: dict[str, tuple[Callable[[Attempt], list[str]], tuple[str, ...]]] = {
    "postcopy": (postcopy.serve, _KINDS),
    "mount": (mounts.serve, (*_KINDS, *_OTHERS)),
    "resume": (partial(resume.serve, door="resume"), (*_KINDS, *_OTHERS, "write", "unlink", "thread", "io")),
    "resume-server": (partial(resume.serve, door="resume-server"), (*_KINDS, *_OTHERS, "write", "thread", "io")),
    "resume-mount": (partial(resume.serve, door="resume-mount"), (*_KINDS, *_OTHERS, "unlink", "io")),
    "resume-none": (
        partial(resume.serve, door="resume-none"),
        (*_KINDS, *_OTHERS, "write", "pwrite", "ftruncate", "fsync", "rename", "unlink", "thread", "io"),
    ),
}
# How many of its calls the short form and the default one try, and how many kills each form makes.
_COUNTS = {
    "postcopy": ((14, 150), (5, 40, 1000)),
    "mount": ((17, 150), (5, 40, 1000)),
    "resume": ((14, 300), (5, 40, 1000)),
    "resume-server": ((10, 300), (0, 0, 0)),
    "resume-mount": ((5, 150), (2, 20, 300)),
    "resume-none": ((8, 300), (0, 0, 0)),
}


def cases(plan: Plan, worker: Worker) -> list[str]:
    """A sample of the calls of each server; and kills at any moment."""
    made = []
    for door in _doors(worker):
        counts = _clean_counts(door, worker)
        faults = [
            f"{door} {Fault(kind, error, mode, nth)}"
            for kind in _DOORS[door][1]
            for mode, errors in (("once", ERRORS_ONCE), ("from", ERRORS_FROM))
            for error in errors[kind]
            for nth in range(1, counts[kind] + 1)
        ]
        # A store that stays locked: the server waits, and must neither wait for itself nor be kept from its end.
        always = [f"{door} {Fault('lock', 'EAGAIN', 'from', max(1, counts['lock'] * 3 // 4))}"]
        if door == "resume":
            # The connection to QEMU's monitor breaks when another server is about to be started.
            always += [f"{door} {Fault('message', 'ECONNRESET', 'once', max(1, counts['message'] // 2))}"]
        (short, default), kills = _COUNTS[door]
        made += always
        made += plan.sample([each for each in faults if each not in always], plan.pick(short, default, 10**9))
        made += [f"{door} kill {index}" for index in range(plan.pick(*kills))]
    return made


def _doors(worker: Worker) -> list[str]:
    """What can be tested here; the rest is said."""
    can_mount = mounts.can_mount(worker)
    if not can_mount:
        print("serving: FUSE file systems cannot be mounted here: no cases of mounts")
    resumes, obstacle = resume.doors(can_mount)
    if obstacle:
        print(f"serving: {obstacle}: not all cases of resume")
    return ["postcopy"] + (["mount"] if can_mount else []) + resumes


def run(case: str, worker: Worker) -> Outcome:
    """Serves with a fault, and looks at what was read, at what was said, and at the store."""
    door, rest = case.split(" ", 1)
    source = random.Random(f"{worker.seed} {case}")
    fault = None if rest.startswith("kill ") else Fault.parse(rest)
    store, snapshot = _prepare(door, worker)
    clear(worker.folder)
    worker.stores.copy(store, worker.folder)
    failures = _DOORS[door][0](Attempt(worker, source, fault, kills=fault is None))
    check = StoreCheck(worker.tool, worker.folder, worker.stores.golden)
    failures += check.run(_SNAPSHOTS | {snapshot}, saves=False)
    return Outcome(case, failures)


def _prepare(door: str, worker: Worker) -> tuple[str, str]:
    """The store `main`, and in it a guest of QEMU's: the store's name, and that guest's."""
    stores = worker.stores
    if door.startswith("resume"):
        resume.prepare(stores, worker.tool)
        return resume.STORE, resume.SNAPSHOT
    place = stores.home / _STORE
    if not place.exists():
        shutil.copytree(stores.home / "main", place)
        line = ["save", "qemu-stream:p1.stream", "--vm", "p", "--name", "p/1"]
        must(worker.tool.run(line, place), "save")
    stores.golden["p/1"] = IMAGES["p1.ram"]
    return _STORE, "p/1"


def _clean_counts(door: str, worker: Worker) -> dict[str, int]:
    """How many calls of each kind a server makes without a fault. It must serve all."""
    store, _ = _prepare(door, worker)
    worker.stores.copy(store, worker.folder)
    report = worker.scratch_report()
    variables = preloading(worker.tool.library, worker.folder, report.path)
    failures = _DOORS[door][0](Attempt(worker, random.Random("clean"), variables=variables))
    if failures:
        raise RuntimeError(f"without a fault, {door} fails: {failures[0]}")
    return report.read()[0]
