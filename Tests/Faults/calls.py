"""Part `calls`: every call of every small command fails once, and from then on; and kills there."""

from __future__ import annotations

from commands import COMMANDS, Command
from harness import Outcome, Plan, Worker
from oracle import DOCUMENTED, StoreCheck, error_lines, orderly
from shim import ERRORS_FROM, ERRORS_ONCE, KINDS, Fault
from stores import IMAGES, OTHER_FILES, OTHER_STORE_FILES, STORE_FILES, must
from tool import Result

# What hurts most: the short form tries it at each call, and samples the rest.
_ALWAYS = {(kind, "EIO") for kind in ("fsync", "fdatasync", "ftruncate", "rename", "unlink", "open")}
_ALWAYS.add(("open", "EMFILE"))

# What a fault must not be called: an error of the disk is not damage, and no permission is missing.
_WRONG_CODES = {
    "EIO": {64, 65, 66, 75, 77},
    "ENOSPC": {64, 65, 66, 75, 77},
    "EMFILE": {64, 65, 66, 75, 77},
    "EACCES": {64, 65, 66, 71, 75},
    "ENOMEM": {64, 65, 66, 73, 75, 77},
    "EAGAIN": {64, 65, 66, 73, 77},
    "ENOLCK": {64, 65, 66, 73, 75},
    "EINTR": {64, 65, 66, 77},
    "EOPNOTSUPP": {64, 65, 66, 75, 77},
    "zero": {64, 65, 66, 75, 77},
}


def faults(counts: dict[str, int], malloc_step: int) -> list[Fault]:
    """All faults of a command that makes so many calls."""
    made = []
    for kind in KINDS:
        step = malloc_step if kind == "malloc" else 1
        for mode, errors in (("once", ERRORS_ONCE), ("from", ERRORS_FROM)):
            for error in errors[kind]:
                made += [Fault(kind, error, mode, n) for n in range(1, counts[kind] + 1, step)]
    return made


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Every call; in the short form a sample of what is not in _ALWAYS."""
    full, sampled, mallocs = [], [], []
    for command in COMMANDS.values():
        counts = _clean(command, worker).counts
        for fault in faults(counts, plan.pick(61, 61, 1)):
            case = f"{command.name} {fault}"
            if fault.kind == "malloc":
                mallocs.append(case)
            elif (fault.kind, fault.error) in _ALWAYS and fault.mode == "once":
                full.append(case)
            else:
                sampled.append(case)
    return (
        full
        + plan.sample(sampled, plan.pick(300, 10**9, 10**9))
        + plan.sample(mallocs, plan.pick(50, 10**9, 10**9))
    )


def _clean(command: Command, worker: Worker) -> Result:
    """The run without a fault, whose output and files are what a run with one must equal."""
    if command.name not in worker.cache:
        folder = worker.folder.with_name("clean")
        worker.stores.copy(command.store, folder)
        _prepare(folder, command)
        clean = must(command.run(worker.tool, folder), command.name)
        files = {name: (folder / name).read_bytes() for name in command.writes}
        worker.cache[command.name] = clean, files
        if command.makes:
            name = command.makes[0]
            restored = must(worker.tool.run(["restore", name, "-o", "-"], folder), name)
            if command.name != "save-overlays" and restored.out != IMAGES[command.makes[1]]:
                raise RuntimeError(f"without a fault, {command.name} saves other bytes")
            worker.stores.golden[name] = restored.out
    return worker.cache[command.name][0]


def _prepare(folder, command: Command) -> None:
    if command.name == "restore-force":
        (folder / "old.ram").write_bytes(b"old" * 1000)
        (folder / "out.json").write_bytes(b"old")


def run(case: str, worker: Worker) -> Outcome:
    """Runs a command with its fault and judges what it said and what it left."""
    name, text = case.split(" ", 1)
    command, fault = COMMANDS[name], Fault.parse(text)
    clean = _clean(command, worker)
    worker.stores.copy(command.store, worker.folder)
    _prepare(worker.folder, command)
    result = command.run(worker.tool, worker.folder, fault)
    failures = _judge_run(command, fault, result)
    if result.code == 0 and command.check:
        failures += command.check(command, worker.tool, worker.folder, result, clean)
    failures += _judge_files(command, fault, result, worker)
    failures += _judge_store(command, fault, result, worker)
    return Outcome(case, failures, note="" if result.fired else "not reached")


def _judge_run(command: Command, fault: Fault, result: Result) -> list[str]:
    if result.code < 0 and not result.timed_out:
        # Allocations that fail end Swift programs; a kill is what was asked for.
        if fault.kind == "malloc" or (fault.is_kill and result.code == -9):
            return []
    failures = orderly(result)
    if command.name == "verify" and result.code == 65:
        # Its report of damage is on standard output.
        failures = [failure for failure in failures if not failure.startswith("words")]
    if result.timed_out or result.code < 0 or not result.fired:
        return failures
    if result.code in _WRONG_CODES.get(fault.error, ()) and result.code in DOCUMENTED:
        failures.append(f"wrong code for {fault.error}: {result.line}")
    if fault.error == "short" and result.code != 0:
        failures.append(f"a short count is not an error: {result.line}")
    if fault.error in ("EMFILE", "EIO", "ENOSPC") and any(
        "permission" in line for line in error_lines(result)
    ):
        failures.append(f"wrong word for {fault.error}: {result.line}")
    return failures


def _judge_files(command: Command, fault: Fault, result: Result, worker: Worker) -> list[str]:
    """Written files are whole or as they were, and nothing else is left."""
    failures = []
    folder = worker.folder
    right = worker.cache[command.name][1]
    for name in command.writes:
        path = folder / name
        data = path.read_bytes() if path.exists() else None
        old = b"old" * 1000 if name == "old.ram" else b"old" if name == "out.json" else None
        if command.name != "restore-force":
            old = None
        if result.code == 0 and data != right[name]:
            failures.append(f"wrong bytes: {name}, with exit 0")
        elif data not in (right[name], old):
            failures.append(f"wrong bytes: {name} is neither whole nor as it was ({result.line})")
    if result.code >= 0 and fault.kind != "unlink":
        known = set(IMAGES) | set(OTHER_FILES) | STORE_FILES | OTHER_STORE_FILES
        known |= set(command.writes)
        known |= {"old.ram", "out.json"} if command.name == "restore-force" else set()
        for path in folder.iterdir():
            if path.name not in known:
                failures.append(f"left: {path.name.split('.')[1:2]} of {command.name} "
                                f"({result.line})")
    return failures


def _judge_store(command: Command, fault: Fault, result: Result, worker: Worker) -> list[str]:
    if command.store != "empty" and worker.stores.is_untouched(command.store, worker.folder):
        failures = list(_untouched(worker, command.store))
        if result.code == 0 and command.makes:
            failures.append(f"lost: {command.makes[0]} is not there, with exit 0")
        if result.code == 0 and command.removes:
            failures.append(f"ghost: {command.removes} is still there, with exit 0")
        return failures
    golden = worker.stores.golden
    present = set() if command.store == "empty" else {"a/1", "a/2", "b/1"}
    possible = set()
    if command.makes:
        (present if result.code == 0 else possible).add(command.makes[0])
    if command.removes:
        present.discard(command.removes)
        if result.code != 0:
            possible.add(command.removes)
    check = StoreCheck(worker.tool, worker.folder, golden)
    failures = []
    if command.makes and result.code > 0 and fault.mode == "once" and fault.kind != "write":
        # A snapshot that is complete is saved: exit 0, with a warning if need be.
        listed = worker.tool.run(["list"], worker.folder)
        if listed.code == 0 and f"\n{command.makes[0]} ".encode() in listed.out:
            failures.append(f"wrong code: {command.makes[0]} is saved: {result.line}")
    return failures + check.run(present, possible, saves_first=fault.nth % 2 == 0)


def _untouched(worker: Worker, store: str) -> list[str]:
    """What is found in a store that is as it was prepared: looked at once."""
    key = f"untouched {store}"
    if key not in worker.cache:
        check = StoreCheck(worker.tool, worker.folder, worker.stores.golden)
        worker.cache[key] = check.run({"a/1", "a/2", "b/1"})
    return worker.cache[key]
