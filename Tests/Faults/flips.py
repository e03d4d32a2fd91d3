"""Part `flips`: one flipped bit anywhere in a store file."""

from __future__ import annotations

import random

from damage import examine
from harness import Outcome, Plan, Worker

_PAGE = 4096
# Where a database page has its header and the first of its cells' pointers.
_HEADER = 160


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Numbers of flips."""
    return [f"flip {index}" for index in range(plan.pick(120, 1000, 5000))]


def run(case: str, worker: Worker) -> Outcome:
    """Flips a bit, half of the time in the header of a page, and looks at the store."""
    source = random.Random(f"{worker.seed} {case}")
    worker.stores.copy("main", worker.folder)
    path = worker.folder / "s.db"
    data = bytearray(path.read_bytes())
    at = source.randrange(len(data))
    if source.random() < 0.5:
        at = at // _PAGE * _PAGE + source.randrange(_HEADER)
    bit = source.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    failures = examine(worker, source, readers=2, writers=1 if source.random() < 0.3 else 0)
    return Outcome(case, [f"byte {at:#x} bit {bit}: {failure}" for failure in failures])
