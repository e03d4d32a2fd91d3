"""What must be true of any run, and of a store after it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Mapping

import guests
from tool import Result, Tool

DOCUMENTED = {0, 64, 65, 66, 69, 71, 73, 74, 75, 77}


def error_lines(result: Result) -> list[str]:
    """Lines on standard error that are not warnings."""
    lines = result.err.decode("utf-8", "replace").splitlines()
    return [line for line in lines if not line.startswith(("vmckpt: warning", "warning"))]


def orderly(result: Result, codes: set[int] = DOCUMENTED) -> list[str]:
    """Ended in time, by itself, with a documented code and, if it failed, one line."""
    if result.timed_out:
        return ["hang: " + result.line]
    if result.code < 0:
        return [f"crash: signal {-result.code}"]
    found = []
    if result.code not in codes:
        found.append(f"code: {result.line}")
    if result.code != 0 and len(error_lines(result)) != 1:
        found.append(f"words: {len(error_lines(result))} lines on standard error: {result.line}")
    if result.code != 0 and guests.SECRET.encode() in result.err:
        found.append("secret: a guest's bytes in an error")
    return found


def names_in(result: Result) -> list[str] | None:
    """The snapshots in a `list --json`."""
    try:
        return [snapshot["name"] for snapshot in json.loads(result.out)["snapshots"]]
    except (ValueError, KeyError, TypeError):
        return None


def without_times(out: bytes) -> bytes:
    """Output whose durations and random names are masked, for comparison."""
    out = re.sub(rb"[0-9.]+ m?s\b", b"T", out)
    return re.sub(rb'"(duration_)?seconds" ?: ?[0-9.e-]+', b'"seconds":0', out)


class StoreCheck:
    """Looks at a store without faults: sound, complete, and good for another save."""

    def __init__(self, tool: Tool, folder: Path, golden: Mapping[str, bytes]):
        self.tool, self.folder, self.golden = tool, folder, golden
        self.found: list[str] = []

    def run(
        self,
        present: set[str],
        possible: set[str] = frozenset(),
        saves_first: bool = False,
        saves: bool = True,
    ) -> list[str]:
        """Failures of a store that must have `present`, may have `possible`, and nothing else.

        With `saves_first` another save is the first to touch the store, else a `verify`.
        """
        if not (self.folder / "s.db").exists():
            if present:
                return ["lost: the store is gone"]
            return self._save() if saves else []
        present, possible = set(present), set(possible)
        if saves_first and saves:
            self._save()
            present.add("n/1")
        else:
            self._verify()
        names = self._names()
        if saves and not saves_first:
            # Its pages must not come into the place of another's.
            self._save()
            present.add("n/1")
            names = self._names()
        if names is None:
            return self.found
        for name in sorted(present - set(names)):
            self.found.append(f"lost: {name} is not in the list")
        for name in sorted(set(names) - present - possible):
            self.found.append(f"ghost: {name} is in the list")
        for name in names:
            self._restore(name)
        if saves_first:
            self._verify()
        return self.found

    def _verify(self) -> None:
        result = self.tool.run(["verify"], self.folder)
        if result.code != 0:
            text = result.out.decode("utf-8", "replace").strip().replace("\n", " ")
            self.found.append(f"unsound: verify {result.line} {text[:200]}")

    def _names(self) -> list[str] | None:
        result = self.tool.run(["list", "--json"], self.folder)
        names = names_in(result) if result.code == 0 else None
        if names is None:
            self.found.append(f"stuck: list {result.line}")
        return names

    def _save(self) -> list[str]:
        arguments = ["save", "n1.ram", "--vm", "n", "--name", "n/1"]
        result = self.tool.run(arguments, self.folder)
        if result.code != 0:
            self.found.append(f"stuck: a save afterwards ends with {result.line}")
        return self.found

    def _restore(self, name: str) -> None:
        result = self.tool.run(["restore", name, "-o", "-"], self.folder)
        if result.code != 0:
            self.found.append(f"lost: restore of {name} {result.line}")
        elif name in self.golden and result.out != self.golden[name]:
            self.found.append(f"wrong bytes: {self.whose(name, result.out)}, with exit 0")

    def whose(self, name: str, data: bytes) -> str:
        """In which way `data` is not the snapshot `name`."""
        right = self.golden[name]
        if len(data) != len(right):
            return f"{name} restores to {len(data)} bytes, not {len(right)}"
        pages = range(0, len(data), guests.PAGE)
        wrong = [at for at in pages if data[at : at + guests.PAGE] != right[at : at + guests.PAGE]]
        first = data[wrong[0] : wrong[0] + guests.PAGE]
        of = "unknown bytes"
        if not any(first):
            of = "zeros"
        for other in (name, *self.golden):
            image = self.golden[other]
            if any(first) and first in image:
                of = "its own page of another place" if other == name else f"a page of {other}"
                break
        return f"{name} restores with {len(wrong)} wrong pages, at {wrong[0]:#x} {of}"


def clear(folder: Path) -> None:
    """Removes a case's folder."""
    shutil.rmtree(folder, ignore_errors=True)
