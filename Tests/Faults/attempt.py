"""One attempt at a guest's pages: the server that is started, its fault, and what a fault allows."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

from harness import Worker
from shim import Fault, preloading
from tool import Running

# How long whoever waits for pages may wait while every call fails.
WAIT_SECONDS = 3.0


@dataclass
class Attempt:
    """What a door of the part `serving` is given: a fault, kills at random moments, or, to count calls, neither."""

    worker: Worker
    source: random.Random
    fault: Fault | None = None
    kills: bool = False
    # Of the server's environment.
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fault:
            self.variables = preloading(self.worker.tool.library, self.folder) | self.fault.environment()

    @property
    def folder(self) -> Path:
        return self.worker.folder

    @property
    def lasts(self) -> bool:
        """Whether the fault does not go away, so that a wait without an end is right."""
        return bool(self.fault and self.fault.mode == "from")

    def start(self, line: Sequence[str], **more: str) -> Running:
        """Starts the binary with the fault."""
        return self.worker.tool.start(line, self.folder, **(self.variables | more))


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """A signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def processes() -> list[tuple[int, list[bytes]]]:
    """All that run, with their arguments; a process that has ended has none."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found.append((int(entry.name), (entry / "cmdline").read_bytes().split(b"\0")[:-1]))
        except OSError:
            continue
    return found
