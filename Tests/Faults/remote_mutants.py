"""Switches the rules of the remotes' protocol off, one at a time, and lets the part `remotes` find what is lost then.

Called by Scripts/remote-mutants. The rules are among those of RemoteModel, whose tests prove the same of all orders of events: here are not those of merging
lists of condemned packs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import faults
import harness
import remotes
from stores import Stores

_REMOTE = "Sources/VMCheckpoint/Remote"

_SWITCH = """
import Glibc

/// Whether a rule of the protocol is switched off.
func isOff(_ rule: String) -> Bool { getenv("VMCKPT_RULE_OFF").map { String(cString: $0) == rule } ?? false }
"""

# By rule: a file, what it says, and what it says in a mutant.
RULES: dict[str, list[tuple[str, str, str]]] = {
    "collectionsWait": [
        (
            "Collect/RemoteCollector.swift",
            "    var sessions: [RemoteKey] = []\n",
            '    if isOff("collectionsWait") { return true }\n    var sessions: [RemoteKey] = []\n',
        )
    ],
    "sessionComesFirst": [
        (
            "Push/PushOperation.swift",
            "    session = try RemoteSession(link)\n",
            '    if isOff("sessionComesFirst") {\n'
            "      condemned = try CondemnedLists(database, link, remoteID: remoteID).load()\n"
            "    }\n    session = try RemoteSession(link)\n",
        ),
        (
            "Push/PushOperation.swift",
            "    condemned = try CondemnedLists(database, link, remoteID: remoteID).load()\n    let earlier",
            '    if !isOff("sessionComesFirst"), !isOff("condemnedIsNotUsed") {\n'
            "      condemned = try CondemnedLists(database, link, remoteID: remoteID).load()\n"
            "    }\n    let earlier",
        ),
    ],
    "secondMark": [
        (
            "Collect/RemoteCollector.swift",
            "      last = try mark()\n",
            '      last = isOff("secondMark") ? marks : try mark()\n',
        )
    ],
    "lateIsVoid": [
        (
            "Protocol/ManifestHeads.swift",
            "    return (head, read.facts.modifiedSeconds <= head.deadlineSeconds)\n",
            '    return (head, isOff("lateIsVoid") || read.facts.modifiedSeconds <= head.deadlineSeconds)\n',
        ),
        (
            "Protocol/ManifestHeads.swift",
            "    return facts.modifiedSeconds <= manifest.head.deadlineSeconds ? manifest : nil\n",
            '    return isOff("lateIsVoid") || facts.modifiedSeconds <= manifest.head.deadlineSeconds\n'
            "      ? manifest : nil\n",
        ),
        (
            "Protocol/RemoteSession.swift",
            "    let facts = try link.put(manifest, bytes)\n    guard facts",
            '    let facts = try link.put(manifest, bytes)\n    guard isOff("lateIsVoid") == false else { return }\n'
            "    guard facts",
        ),
    ],
    # The other half is beside sessionComesFirst.
    "condemnedIsNotUsed": [],
    "lateRenewalEnds": [
        (
            "Protocol/RemoteSession.swift",
            "    guard facts.modifiedSeconds <= deadlineSeconds else { throw Self.isLate }\n",
            '    guard isOff("lateRenewalEnds") || facts.modifiedSeconds <= deadlineSeconds else {\n'
            "      throw Self.isLate\n    }\n",
        )
    ],
    "copiesAreRefused": [
        (
            "Collect/RemoteCollector.swift",
            "    try seen.requireNoneLost(void: marks.void, validCount: marks.snapshotCount)\n",
            '    if !isOff("copiesAreRefused") {\n'
            "      try seen.requireNoneLost(void: marks.void, validCount: marks.snapshotCount)\n    }\n",
        ),
        (
            "Collect/RemoteCollector.swift",
            "      try seen.requireNoneLost(void: last.void, validCount: last.snapshotCount)\n",
            '      if !isOff("copiesAreRefused") {\n'
            "        try seen.requireNoneLost(void: last.void, validCount: last.snapshotCount)\n      }\n",
        ),
    ],
}


# Where a rule is only needed for a moment of a push, its pauses are tried first: the variants, and whether the last calls
# come first. A manifest is late only where the push was stopped after the last look at its session, and before it had
# the remote's lock to put the manifest.
MOMENTS = {"sessionComesFirst": (("resumed", "given-up"), False), "lateIsVoid": (("given-up",), True)}


def build(root: Path, place: Path) -> str:
    """Builds a vmckpt whose rules can be switched off, from a copy of the sources."""
    source = place / "source"
    source.mkdir(parents=True, exist_ok=True)
    files = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        + ["Sources", "Schema", "Tests", "Package.swift"],
        check=True,
        capture_output=True,
    ).stdout.decode().split("\0") + ["Package.resolved"]
    wanted = {name: (root / name).read_bytes() for name in files if name and (root / name).is_file()}
    for changes in RULES.values():
        for file, before, after in changes:
            name = f"{_REMOTE}/{file}"
            text = wanted[name].decode()
            if text.count(before) != 1:
                sys.exit(f"remote-mutants: {name} does not have what a mutant changes: {before!r}")
            wanted[name] = text.replace(before, after).encode()
    wanted[f"{_REMOTE}/Protocol/RuleSwitch.swift"] = _SWITCH.encode()
    for path in [path for path in source.rglob("*") if path.is_file() and ".build" not in path.parts]:
        if str(path.relative_to(source)) not in wanted:
            path.unlink()
    for name, data in wanted.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # What did not change is not compiled again.
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    command = ["swift", "build", "--package-path", source, "--scratch-path", place / "build", "--product", "vmckpt"]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        sys.exit("remote-mutants: the mutants do not compile")
    return str((place / "build/debug/vmckpt").resolve())


def hunt(rule: str, binary: str, library: Path, home: Path, seconds: float, jobs: int) -> str | None:
    """What the part `remotes` finds first; nothing when it finds nothing in time."""
    os.environ["VMCKPT_RULE_OFF"] = rule
    stores = Stores(home / "stores")
    # A stop at a call that no push comes to would find nothing, in the time of one that does.
    counted = remotes.Fleet(harness.make_worker(home, stores, binary, library, 1), rule).push_call_count()
    calls = {variant: range(1, counted + 1) for variant in remotes.VARIANTS}
    calls["collector"] = range(1, remotes.CALLS + 1)
    cases = [f"{variant} {nth}" for variant in remotes.VARIANTS for nth in calls[variant]]
    random.Random(rule).shuffle(cases)
    if rule in MOMENTS:
        variants, is_reversed = MOMENTS[rule]
        numbers = sorted(calls[variants[0]], reverse=is_reversed)
        cases = [f"{variant} {nth}" for nth in numbers for variant in variants]
    cases = ["copied 0"] + cases
    plan = harness.Plan("default", 1, time.monotonic() + seconds)
    arguments = (home, stores, binary, library, 1)
    for outcome in harness.outcomes(remotes, cases, arguments, jobs, plan, keeps_order=True):
        lost = [text for text in outcome.failures if text.startswith(("lost", "wrong bytes"))]
        if lost:
            return f"{outcome.case}: {lost[0]}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="Scripts/remote-mutants")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300, help="for each rule at most")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("rules", nargs="*", default=[], metavar="RULE")
    options = parser.parse_args()
    unknown = set(options.rules) - set(RULES)
    if unknown:
        parser.error(f"no rule {', '.join(sorted(unknown))}; there are {', '.join(RULES)}")
    binary = build(options.root, options.root / ".build-remote-mutants")
    home = faults.work_folder()
    missed = []
    try:
        for rule in options.rules or RULES:
            began = time.monotonic()
            found = hunt(rule, binary, options.library, home, options.seconds, options.jobs)
            missed += [] if found else [rule]
            print(f"{rule:20} {time.monotonic() - began:5.0f} s  {found or 'NOT FOUND'}", flush=True)
        print(f"remote-mutants: {len(options.rules or RULES) - len(missed)} found, {len(missed)} not")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
