"""What must be true of a damaged store: right bytes or an error, and everything ends orderly."""

from __future__ import annotations

import random

from harness import Worker
from oracle import StoreCheck, orderly
from stores import IMAGES

PEAK_KIB_MAX = 512 << 10
SNAPSHOTS = ("a/1", "a/2", "b/1")

# Commands that a damaged store must not crash, hang or bloat.
_READERS = (
    ("list",),
    ("list", "--json"),
    ("show", "a/2"),
    ("show", "b/1", "--json"),
    ("diff", "a/1", "a/2"),
    ("diff", "a/1", "b/1"),
    ("stats",),
    ("map", "a/1"),
    ("query", "vms"),
    ("query", "region-pages", "a/1"),
    ("gc", "--dry-run"),
)
_WRITERS = (
    ("tag", "a/1", "x=y"),
    ("delete", "a/1"),
    ("gc",),
    ("optimize",),
    ("save", "a3.ram", "--vm", "a", "--name", "a/3"),
)


def examine(
    worker: Worker, source: random.Random, readers: int, writers: int, renamed: bool = False
) -> list[str]:
    """Failures of the store in the worker's folder.

    With `renamed` a name may lead to another snapshot, as after an edit of names.
    """
    tool, folder, golden = worker.tool, worker.folder, worker.stores.golden
    check = StoreCheck(tool, folder, golden)
    failures = []

    def judge(line: tuple[str, ...]):
        result = tool.run(line, folder)
        found = orderly(result)
        if line[0] == "verify" and result.code == 65:
            # The report of damage is on standard output.
            found = [text for text in found if not text.startswith("words")]
        if result.peak_kib > PEAK_KIB_MAX:
            found.append(f"memory: {result.peak_kib >> 10} MiB")
        failures.extend(f"{' '.join(line)}: {text}" for text in found)
        return result

    for name in SNAPSHOTS:
        if source.random() < 0.25:
            result = judge(("restore", name, "-o", "out.ram", "--force"))
            out = folder / "out.ram"
            data = b""
            if result.code == 0 and out.stat().st_size == len(golden[name]):
                data = out.read_bytes()
            out.unlink(missing_ok=True)
        else:
            result = judge(("restore", name, "-o", "-"))
            data = result.out
        if result.code == 0 and data != golden[name]:
            if not (renamed and any(data == golden[other] for other in SNAPSHOTS)):
                failures.append(f"wrong bytes: {check.whose(name, data)}, with exit 0")
    judge(("verify",))
    for line in source.sample(_READERS, min(readers, len(_READERS))):
        judge(line)
    for line in source.sample(_WRITERS, min(writers, len(_WRITERS))):
        if judge(line).code == 0 and line[0] == "save":
            restored = judge(("restore", "a/3", "-o", "-"))
            if restored.code == 0 and restored.out != IMAGES["a3.ram"]:
                failures.append("wrong bytes: a/3, saved after the damage, with exit 0")
    return failures
