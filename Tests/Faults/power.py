"""Part `power`: losses of power in the middle of commands, as the recorder saw them."""

from __future__ import annotations

import copy
import json
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from disk import MARK, SYNC, Disk, Record, append_mark, read_log
from harness import Outcome, Plan, Worker
from oracle import StoreCheck, clear
from shim import preloading
from stores import IMAGES, must


@dataclass(frozen=True)
class Step:
    """A command, and what it makes, removes or writes."""

    arguments: tuple[str, ...]
    saves: str = ""
    image: str = ""
    deletes: str = ""
    writes: str = ""


def _save(name: str, image: str, *more: str) -> Step:
    arguments = ("save", image, "--name", name, "--vm", name.split("/")[0], *more)
    return Step(arguments, saves=name, image=image)


def _delete(name: str) -> Step:
    return Step(("delete", name), deletes=name)


def _restore(name: str, file: str, *more: str) -> Step:
    return Step(("restore", name, "-o", file, *more), writes=file)


_GC, _OPTIMIZE = Step(("gc",)), Step(("optimize",))

WORKLOADS: dict[str, tuple[str, tuple[Step, ...]]] = {
    "save": ("main", (_save("c/1", "c1.ram"),)),
    "save-new": ("empty", (_save("c/1", "c1.ram"), _save("d/1", "d1.ram"))),
    "save-parent": ("dirty", (_save("a/3", "a3.ram"),)),
    "save-overlays": ("main", (_save("b/2", "b1.ram", "--overlays", "overlays.json"),)),
    "delete": ("main", (_delete("a/1"), _delete("b/1"))),
    "gc": ("dirty", (_GC,)),
    "optimize": ("dirty", (_OPTIMIZE,)),
    "tag": ("main", (Step(("tag", "a/1", "colour=blue")),)),
    "restore": (
        "main",
        (_restore("a/2", "out.ram"), _restore("b/1", "old.ram", "--force")),
    ),
    "chain": (
        "dirty",
        (
            _save("c/1", "c1.ram"),
            _delete("a/1"),
            _save("d/1", "d1.ram"),
            _GC,
            _save("a/3", "a3.ram"),
            _delete("c/1"),
            _OPTIMIZE,
            _save("c/2", "c1.ram"),
        ),
    ),
}


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Crash states spread over the workloads."""
    count = plan.pick(15, 60, 200)
    return [f"{name} {index}" for index in range(count) for name in WORKLOADS]


@dataclass
class Recording:
    """A workload that ran to its end: the disk before it, and all that it did."""

    store: str
    disk: Disk
    records: list[Record]
    golden: dict[str, bytes]
    old: bytes


def _mark(log: Path, event: str, step: Step) -> None:
    append_mark(log, json.dumps({"event": event} | asdict(step)))


def record(name: str, worker: Worker, **variables: str) -> Recording:
    """Runs a workload under the recorder."""
    store, steps = WORKLOADS[name]
    folder = worker.folder.with_name("recorded")
    worker.stores.copy(store, folder)
    old = b"old" * 5000
    (folder / "old.ram").write_bytes(old)
    log = folder.with_name("log")
    log.unlink(missing_ok=True)
    disk = Disk(folder)
    golden = dict(worker.stores.golden)
    more = preloading(worker.tool.library, folder) | {"VMFAULTS_RECORD": str(log)} | variables
    for step in steps:
        _mark(log, "begin", step)
        must(worker.tool.start(step.arguments, folder, **more).finish(), step.arguments[0])
        _mark(log, "end", step)
        if step.saves:
            restored = must(worker.tool.run(["restore", step.saves, "-o", "-"], folder), step.saves)
            golden[step.saves] = restored.out
            if step.saves != "b/2" and restored.out != IMAGES[step.image]:
                raise RuntimeError(f"without a fault, {step.saves} restores to other bytes")
        if step.writes:
            golden[step.writes] = (folder / step.writes).read_bytes()
    recording = Recording(store, disk, read_log(log), golden, old)
    log.unlink()
    clear(folder)
    return recording


def run(case: str, worker: Worker) -> Outcome:
    """One crash state of one workload."""
    name, index = case.split()
    if name not in worker.cache:
        worker.cache[name] = record(name, worker)
    return Outcome(case, crash(worker.cache[name], f"{worker.seed} {case}", worker))


def crash(recording: Recording, seed: str, worker: Worker) -> list[str]:
    """Cuts the power at a moment, and looks at what the disk has then."""
    source = random.Random(seed)
    records = recording.records
    cut = source.randrange(1, len(records) + 1)
    if source.random() < 0.5:
        # Just before a sync most is at stake.
        syncs = [at for at, change in enumerate(records) if change.type in (SYNC, MARK)]
        cut = source.choice(syncs)
    disk = copy.deepcopy(recording.disk)
    present = set() if recording.store == "empty" else {"a/1", "a/2", "b/1"}
    possible: set[str] = set()
    written: dict[str, bool] = {}
    for change in records[:cut]:
        if change.type != MARK:
            disk.apply(change)
            continue
        mark = json.loads(change.data)
        ended = mark["event"] == "end"
        if mark["saves"]:
            (present if ended else possible).add(mark["saves"])
        if mark["deletes"]:
            present.discard(mark["deletes"])
            (possible.discard if ended else possible.add)(mark["deletes"])
        if mark["writes"]:
            written[mark["writes"]] = ended
    files = disk.crash(source)
    folder = worker.folder
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
        os.chmod(folder / name, 0o600)
    failures = []
    for name, ended in written.items():
        found, right = files.get(name), recording.golden[name]
        allowed = [right] if ended else [right, recording.old if name == "old.ram" else None]
        if found not in allowed:
            failures.append(f"wrong bytes: {name} is not whole after a power loss at {cut}")
    check = StoreCheck(worker.tool, folder, recording.golden)
    saves = source.random() < 0.5
    return failures + check.run(present, possible, source.random() < 0.5, saves)
