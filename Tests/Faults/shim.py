"""The preloaded shim from the driver's side: kinds of calls, faults, counters."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path

# The order of `enum fault_kind` in shim/faults.h.
KINDS = (
    "read pread write pwrite fsync fdatasync ftruncate rename unlink open mmap fallocate lock"
    " thread malloc pipe spawn socket message io"
).split()

_REPORT_BYTES = 4096

# What can be returned by each kind of call: once, and from the Nth call on. An endless EINTR or
# EAGAIN of a descriptor is left out: repeating the call is what programs are to do.
ERRORS_ONCE = {
    "read": ("EIO", "EINTR", "short"),
    "pread": ("EIO", "EINTR", "short"),
    "write": ("EIO", "ENOSPC", "EINTR", "EAGAIN", "short"),
    "pwrite": ("EIO", "ENOSPC", "EINTR", "short", "zero"),
    "fsync": ("EIO", "ENOSPC", "EINTR"),
    "fdatasync": ("EIO", "ENOSPC", "EINTR"),
    "ftruncate": ("EIO", "ENOSPC", "EINTR"),
    "rename": ("EIO", "ENOSPC"),
    "unlink": ("EIO", "EACCES"),
    "open": ("EIO", "ENOSPC", "EMFILE", "EACCES", "EINTR"),
    "mmap": ("ENOMEM",),
    "fallocate": ("EIO", "ENOSPC", "EOPNOTSUPP"),
    "lock": ("EIO", "ENOLCK", "EAGAIN", "EINTR"),
    "thread": ("EAGAIN",),
    "malloc": ("ENOMEM",),
    "pipe": ("EMFILE",),
    "spawn": ("EAGAIN", "ENOMEM"),
    "socket": ("EMFILE", "ENOBUFS"),
    "message": ("ECONNRESET", "EINTR"),
    "io": ("kill-before", "kill-after"),
}
ERRORS_FROM = {
    "read": ("EIO", "short"),
    "pread": ("EIO", "short"),
    "write": ("EIO", "ENOSPC", "short"),
    "pwrite": ("EIO", "ENOSPC", "short", "zero"),
    "fsync": ("EIO",),
    "fdatasync": ("EIO",),
    "ftruncate": ("EIO",),
    "rename": ("EIO",),
    "unlink": ("EIO",),
    "open": ("EMFILE", "EIO"),
    "mmap": ("ENOMEM",),
    "fallocate": ("ENOSPC",),
    "lock": ("EIO", "EAGAIN"),
    "thread": ("EAGAIN",),
    "malloc": ("ENOMEM",),
    "pipe": ("EMFILE",),
    "spawn": ("EAGAIN",),
    "socket": ("EMFILE",),
    "message": ("ECONNRESET",),
    "io": (),
}


@dataclass(frozen=True)
class Fault:
    """One call, or all from one on, that fails: `fsync EIO once 7`."""

    kind: str
    error: str
    mode: str
    nth: int

    def __str__(self) -> str:
        return f"{self.kind} {self.error} {self.mode} {self.nth}"

    @staticmethod
    def parse(text: str) -> "Fault":
        kind, error, mode, nth = text.split()
        if kind not in KINDS or mode not in ("once", "from"):
            raise ValueError(f"{text!r} is not a fault")
        return Fault(kind, error, mode, int(nth))

    @property
    def is_kill(self) -> bool:
        return self.error.startswith("kill")

    def environment(self) -> dict[str, str]:
        """The variables that make the shim do it."""
        number = getattr(errno, self.error, None)
        values = {
            "VMFAULTS_KIND": str(KINDS.index(self.kind)),
            "VMFAULTS_ERROR": self.error if number is None else str(number),
            "VMFAULTS_NTH": str(self.nth),
        }
        if self.mode == "from":
            values["VMFAULTS_FROM"] = "1"
        if self.error == "EAGAIN" and self.kind == "lock":
            # The minute that a command waits for a lock passes in a second.
            values["VMFAULTS_SLEEP"] = "100"
        return values


class Report:
    """The file in which the shim counts; right also after a kill."""

    def __init__(self, path: Path):
        self.path = path
        self.reset()

    def reset(self) -> None:
        self.path.write_bytes(bytes(_REPORT_BYTES))

    def read(self) -> tuple[dict[str, int], int]:
        """The calls by kind, and how many of them failed."""
        with open(self.path, "rb") as file:
            values = struct.unpack(f"{len(KINDS) + 1}Q", file.read(8 * (len(KINDS) + 1)))
        return dict(zip(KINDS, values)), values[-1]


def in_child(command: str, token: Path) -> dict[str, str]:
    """More variables: what fails are calls of the first child with that command, which makes the file `token`."""
    return {"VMFAULTS_COMMAND": command, "VMFAULTS_FIRST": str(token)}


def preloading(library: Path, root: Path, report: Path | None = None) -> dict[str, str]:
    """The variables that load the shim, to watch the files below `root`."""
    values = {"LD_PRELOAD": str(library), "VMFAULTS_ROOT": os.path.realpath(root)}
    if report:
        values["VMFAULTS_REPORT"] = str(report)
    return values
