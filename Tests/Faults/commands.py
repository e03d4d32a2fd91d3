"""The small commands whose every call is made to fail, and when they have done what was asked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import stores
from oracle import names_in, without_times
from tool import Result, Tool


@dataclass(frozen=True)
class Command:
    """A command line, the store it works on, and what it leaves there."""

    name: str
    store: str
    arguments: tuple[str, ...]
    stdin: str | None = None
    # Snapshots that it makes (with the image that they hold) or removes.
    makes: tuple[str, str] | None = None
    removes: str | None = None
    # Files that it writes beside the store.
    writes: tuple[str, ...] = ()
    # What else says that it did its work: the trouble found, with the clean run's result.
    check: Callable[["Command", Tool, Path, Result, Result], list[str]] | None = None

    @property
    def changes(self) -> bool:
        """Whether it is to change the store."""
        return bool(self.makes or self.removes or self.name in ("tag", "gc", "optimize"))

    def run(self, tool: Tool, folder: Path, fault=None) -> Result:
        """Runs it, counted, in a copy of its store."""
        data = stores.IMAGES[self.stdin] if self.stdin else None
        return tool.run_counted(self.arguments, folder, data, fault)


def _same_output(command: Command, tool: Tool, folder: Path, result: Result, clean: Result):
    if without_times(result.out) != without_times(clean.out):
        return ["wrong: other output than without the fault, with exit 0"]
    return []


def _same_bytes(command: Command, tool: Tool, folder: Path, result: Result, clean: Result):
    return [] if result.out == clean.out else ["wrong bytes: in the pipe, with exit 0"]


def _tagged(command: Command, tool: Tool, folder: Path, result: Result, clean: Result):
    listed = tool.run(["list", "--json"], folder)
    if names_in(listed) is None:
        return [f"stuck: list {listed.line}"]
    tags = {row["name"]: row["tags"] for row in json.loads(listed.out)["snapshots"]}
    return [] if tags["a/1"].get("colour") == "blue" else ["wrong: no tag, with exit 0"]


def _sound(command: Command, tool: Tool, folder: Path, result: Result, clean: Result):
    text = re.sub(rb"\d+ chunks", b"", without_times(result.out))
    return [] if text.startswith(b"Sound") else ["wrong: not sound, with exit 0"]


def _names_vms(command: Command, tool: Tool, folder: Path, result: Result, clean: Result):
    # Ages and free space are others each time.
    missing = [line for line in (b"\na ", b"\nb ") if line not in result.out]
    return ["wrong: a VM is missing, with exit 0"] if missing else []


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "save-file",
            "main",
            ("save", "c1.ram", "--vm", "c", "--name", "c/1"),
            makes=("c/1", "c1.ram"),
        ),
        Command(
            "save-pipe",
            "main",
            ("save", "-", "--vm", "c", "--name", "c/1"),
            stdin="c1.ram",
            makes=("c/1", "c1.ram"),
        ),
        Command(
            "save-parent",
            "dirty",
            ("save", "a3.ram", "--vm", "a", "--name", "a/3"),
            makes=("a/3", "a3.ram"),
        ),
        Command(
            "save-overlays",
            "main",
            ("save", "b1.ram", "--vm", "b", "--name", "b/2", "--overlays", "overlays.json")
            + ("--tag", "one=1", "--tag", "two=2"),
            makes=("b/2", "b1.ram"),
        ),
        Command(
            "save-new",
            "empty",
            ("save", "c1.ram", "--vm", "c", "--name", "c/1"),
            makes=("c/1", "c1.ram"),
        ),
        Command(
            "save-stream",
            "main",
            ("save", "qemu-stream:p1.stream", "--vm", "p", "--name", "p/1"),
            makes=("p/1", "p1.ram"),
        ),
        Command(
            "save-elf",
            "main",
            ("save", "e1.elf", "--vm", "e", "--name", "e/1"),
            makes=("e/1", "e1.ram"),
        ),
        Command(
            "copy",
            "main",
            ("copy", "c/1", "--store", "o.db", "--to", "s.db"),
            makes=("c/1", "c1.ram"),
        ),
        Command(
            "copy-new",
            "empty",
            ("copy", "c/1", "--store", "o.db", "--to", "s.db"),
            makes=("c/1", "c1.ram"),
        ),
        Command("restore-file", "main", ("restore", "a/2", "-o", "out.ram"), writes=("out.ram",)),
        Command(
            "restore-force",
            "main",
            ("restore", "b/1", "-o", "old.ram", "--force", "--overlays-out", "out.json"),
            writes=("old.ram", "out.json"),
        ),
        Command("restore-pipe", "main", ("restore", "a/2", "-o", "-"), check=_same_bytes),
        Command(
            "restore-verify",
            "main",
            ("restore", "b/1", "-o", "out.ram", "--verify"),
            writes=("out.ram",),
        ),
        Command(
            "restore-elf",
            "main",
            ("restore", "a/2", "-o", "out.elf", "--format", "elf"),
            writes=("out.elf",),
        ),
        Command(
            "convert",
            "main",
            ("convert", "e1.elf", "-o", "out.lime", "--format", "lime"),
            writes=("out.lime",),
        ),
        Command(
            "convert-stream",
            "main",
            ("convert", "qemu-stream:p1.stream", "-o", "out.ram", "--format", "raw"),
            writes=("out.ram",),
        ),
        Command("list", "main", ("list",), check=_same_output),
        Command("show", "main", ("show", "b/1", "--json"), check=_same_output),
        Command("diff", "main", ("diff", "a/1", "a/2"), check=_same_output),
        Command("tag", "main", ("tag", "a/1", "colour=blue"), check=_tagged),
        Command("stats", "main", ("stats",), check=_same_output),
        Command("status", "main", ("status",), check=_names_vms),
        Command("map", "main", ("map", "a/1", "a/2"), check=_same_output),
        Command("map-file", "main", ("map", "a/1", "-o", "out.svg"), writes=("out.svg",)),
        Command("query", "main", ("query", "vms"), check=_same_output),
        Command("lease", "main", ("lease", "list"), check=_same_output),
        Command("verify", "main", ("verify",), check=_sound),
        Command("verify-part", "main", ("verify", "--part", "next/2"), check=_sound),
        Command("delete", "dirty", ("delete", "a/1"), removes="a/1"),
        Command("prune", "dirty", ("prune", "--keep-last", "1"), removes="a/1"),
        Command("gc", "dirty", ("gc",)),
        Command("optimize", "dirty", ("optimize",)),
        Command(
            "overlays",
            "main",
            ("overlays", "msrs.json", "--from", "msrs", "--to", "overlays-json"),
            check=_same_output,
        ),
    )
}
