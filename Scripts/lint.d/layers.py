#!/usr/bin/env python3
"""Checks which way the modules, and the folders in them, depend on each other.

Usage: Scripts/lint.d/layers.py [--show]

A folder depends on another when it names a type, or a function of no type, that is declared at the
outermost level of a file there. Members of extensions are not followed.

  --show  prints each dependency between folders, with one place that needs it

Exit codes: 0 all go the right way, 1 some do not.
"""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# What a module may import of the package's own. Anything else of the package is the wrong way.
MODULES = {
    "VMCheckpointCore": {"CCrypto", "CLZ4", "CXXHash"},
    "VMCheckpoint": {"CCurl", "CLinux", "VMCheckpointCore", "VMCheckpointSchema"},
    "VMCheckpointFormats": {"CDecompression", "CLinux", "VMCheckpoint"},
    "VMCheckpointCommands": {
        "CSQLiteExtension",
        "SQLiteExtension",
        "VMCheckpoint",
        "VMCheckpointFormats",
    },
    "vmckpt": {"VMCheckpointCommands"},
    "SQLiteExtension": {"CLZ4", "CSQLiteExtension", "VMCheckpointCore"},
    "SQLiteExtensionEntry": {"CSQLiteExtension", "SQLiteExtension"},
    "vmckpt-bench": {"CLZ4", "VMCheckpoint", "VMCheckpointKernels"},
    "kvm-overlay-guest": {"CKVM", "VMCheckpoint"},
}

# Modules of others that may come into one of ours only where they are named here.
FOREIGN = {
    "GRDB": {"VMCheckpoint"},
    "GRDBSQLite": {"VMCheckpoint"},
    "ArgumentParser": {"VMCheckpointCommands", "vmckpt-bench", "kvm-overlay-guest"},
    "Foundation": {
        "VMCheckpoint", "VMCheckpointFormats", "VMCheckpointCommands", "vmckpt-bench",
        "kvm-overlay-guest",
    },
}

# The folders of a module, and those that each may use. `*` stands for all that have no line.
FOLDERS = {
    "VMCheckpointCore": {
        "Memory": {"Model"},
        "Model": set(),
        "Threads": {"Model"},
        "Overlay": {"Model"},
        "Chunks": {"Model", "Memory"},
        "Store": {"Model", "Memory", "Threads", "Overlay", "Chunks"},
        # What a guest's kernel says of itself.
        "Guest": {"Model", "Memory", "Chunks", "Store"},
    },
    "VMCheckpoint": {
        # What the module passes on of the core.
        ".": set(),
        "System": set(),
        "Store": {"System"},
        "Save": {"System", "Store"},
        "Restore": {"System", "Store", "Remote"},
        "Convert": {"System", "Store", "Save", "Restore"},
        "Inspect": {"System", "Store"},
        # Pages are read wherever they are.
        "Read": {"System", "Store", "Remote"},
        "Serve": {"System", "Store", "Read"},
        "Mount": {"System", "Store", "Inspect", "Read", "Restore", "Serve"},
        "Maintenance/Delete": {"System", "Store", "Maintenance/Collect", "Maintenance"},
        "Maintenance/Prune": {
            "System", "Store", "Maintenance", "Maintenance/Collect", "Maintenance/Delete",
            "Maintenance/Retention",
        },
        "Maintenance/Retention": {"System"},
        "Maintenance/Collect": {"System", "Store", "Maintenance"},
        "Maintenance/Optimize": {"System", "Store", "Maintenance", "Maintenance/Collect"},
        "Maintenance/Verify": {"System", "Store", "Maintenance"},
        "Maintenance": {"System", "Store"},
        # Objects by their keys: knows nothing of stores.
        "Remote/Transport": {"System"},
        # What the objects of a remote hold, byte for byte.
        "Remote/Layout": {"System", "Store", "Remote/Transport"},
        "Remote": {
            "System", "Store", "Save", "Maintenance/Retention", "Remote/Transport", "Remote/Layout",
        },
    },
    "VMCheckpointFormats": {
        "Registry": {"*"},
        "Format": set(),
        "Compression": {"Programs"},
        # Programs of others, run.
        "Programs": set(),
        "Libvirt": {"Format", "QEMU", "Compression", "Programs"},
        "Propolis": {"Format", "Tar", "HyperV"},
        "Tar": set(),
        # Registers and their overlays, and directories of files: what several formats have.
        "HyperV": set(),
        "Directory": set(),
        "QEMU": {"Format", "Directory", "HyperV", "Programs"},
        "CloudHypervisor": {"Format", "Directory", "HyperV"},
        "Firecracker": {"Format", "Directory", "HyperV"},
        # Registers come out of a QEMU guest's device state.
        "ELF": {"Format", "Physical", "QEMU"},
        "AVML": {"Format", "Physical", "Compression"},
        # Its notes are those of an ELF core.
        "Kdump": {"Format", "Physical", "Compression", "ELF"},
        # What dumps of physical memory share.
        "Physical": {"Format"},
        # Any other folder is a format.
        "*": {"Format", "Physical"},
    },
}

DECLARATION = re.compile(
    r"^(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|final|indirect)\s+)*"
    r"(?:struct|class|enum|protocol|actor|typealias|func)\s+(\w+)",
    re.M,
)
# Also `import struct M.T`, after a semicolon, and with the name on the next line.
IMPORT = re.compile(
    r"\bimport\s+(?:(?:struct|class|enum|protocol|typealias|func|let|var|actor)\s+)?(\w+)"
)
# A string or a comment, whichever begins first; a block comment may hold others.
TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/', re.S
)


def code(path: pathlib.Path) -> str:
    """A file's text without comments and the contents of strings, with as many lines."""

    def blank(match: re.Match[str]) -> str:
        lines = "\n" * match[0].count("\n")
        return f'""{lines}' if match[0].startswith('"') else f" {lines}"

    text = path.read_text(encoding="utf-8")
    while (blanked := TEXT.sub(blank, text)) != text:
        text = blanked
    return text


def folder(module: str, path: pathlib.Path) -> str | None:
    """The folder of FOLDERS that a file is in: the longest that fits."""
    place = path.relative_to(ROOT / "Sources" / module).parent.as_posix()
    fitting = [each for each in FOLDERS[module] if (place + "/").startswith(each + "/")]
    if fitting:
        return max(fitting, key=len)
    return place.split("/")[0] if "*" in FOLDERS[module] and place != "." else None


def imports() -> list[str]:
    """Imports that go the wrong way."""
    found = []
    # What is in Tests is in no product: only benchmarks and tests may import it.
    folders = [*(ROOT / "Sources").iterdir(), *(ROOT / "Tests").iterdir()]
    own = set(MODULES) | {each.name for each in folders}
    for module, allowed in MODULES.items():
        for path in sorted((ROOT / "Sources" / module).rglob("*.swift")):
            for name in IMPORT.findall(code(path)):
                place = f"{path.relative_to(ROOT)}:1: error:"
                if name in own and name not in allowed:
                    found.append(f"{place} {module} must not import {name}")
                if module not in FOREIGN.get(name, {module}):
                    found.append(f"{place} {module} must not import {name}")
    return found


def homeless(module: str) -> list[str]:
    """Files in folders that have no line in FOLDERS, so that nothing would be checked there."""
    return [
        f"{path.relative_to(ROOT)}:1: error: this folder of {module} has no line in "
        "FOLDERS, in Scripts/lint.d/layers.py"
        for path in sorted((ROOT / "Sources" / module).rglob("*.swift"))
        if folder(module, path) is None
    ]


def uses(module: str) -> dict[tuple[str, str], list[str]]:
    """Which folder names what of which other one, and where."""
    files = {
        path: code(path)
        for path in sorted((ROOT / "Sources" / module).rglob("*.swift"))
        if folder(module, path)
    }
    homes: dict[str, set[str]] = {}
    for path, text in files.items():
        for name in DECLARATION.findall(text):
            homes.setdefault(name, set()).add(folder(module, path))
    # A name that two folders have means its own there.
    home = {name: next(iter(folders)) for name, folders in homes.items() if len(folders) == 1}
    found: dict[tuple[str, str], list[str]] = {}
    for path, text in files.items():
        here = folder(module, path)
        for number, line in enumerate(text.split("\n"), 1):
            for name in re.findall(r"\b[A-Za-z]\w+", line):
                there = home.get(name)
                # An extension adds to a type from above.
                if there and there != here and not line.startswith("extension "):
                    place = f"{path.relative_to(ROOT)}:{number}"
                    found.setdefault((here, there), []).append(f"{place}: {name}")
    return found


def main() -> int:
    problems = imports()
    for module, allowed in FOLDERS.items():
        problems += homeless(module)
        for (here, there), places in sorted(uses(module).items()):
            if "--show" in sys.argv:
                print(f"{module}: {here} -> {there} ({len(places)}), as at {places[0]}")
            may = allowed.get(here, allowed.get("*", set()))
            if there not in may and "*" not in may:
                for place in places:
                    where, name = place.rsplit(": ", 1)
                    problems.append(
                        f"{where}: error: {here} must not use {there} (here: {name})"
                    )
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
