"""Runs the readers on real guests; called by Scripts/interop, which has fetched what this needs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import symbols
from images import Tool
from qemu_rows import Setting, hole_rows, live_rows, ten_rows
from readers import Readers
from table import Row, Table, run, stop

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    """The command line that Scripts/interop makes."""
    parser = argparse.ArgumentParser(prog="Scripts/interop")
    for name in ("binary", "kernel", "vmlinux", "python", "qemu", "qemu10", "place"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    return parser.parse_args()


def libvirt_rows(table: Table, options: argparse.Namespace, initramfs: Path) -> None:
    """The rows of libvirt: they need its daemon, and run beside it."""
    rows = options.place / "libvirt-rows"
    start = time.monotonic()
    words = [HERE / "libvirt", sys.executable, HERE / "libvirt_rows.py"]
    words += ["--binary", options.binary, "--kernel", options.kernel, "--initramfs", initramfs]
    words += ["--qemu", options.qemu, "--place", options.place / "libvirt", "--rows", rows]
    status = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, check=False)
    lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
    table.rows += [Row(**json.loads(line)) for line in lines]
    if status.returncode != 0 or not lines:
        text = f"ended with {status.returncode}"
        seconds = time.monotonic() - start
        table.add(Row("libvirt", "?", "a domain", "to run", text, seconds, False))


def guarded(table: Table, what: str, rows: object, *parameters: object) -> None:
    """Runs some rows. If they cannot begin, that is a row that failed, and the others still run."""
    start = time.monotonic()
    try:
        rows(*parameters)  # type: ignore[operator]
    except Exception as error:  # pylint: disable=broad-except
        text = f"{type(error).__name__}: {error}"
        table.add(Row("vmckpt", "?", what, "to run", text, time.monotonic() - start, False))


def main() -> int:
    """Prints the table; 1 when a row failed."""
    start = time.monotonic()
    options = arguments()
    initramfs = options.place / "initramfs"
    run([HERE.parent / "counting-guest", initramfs, HERE / "init"])
    types = symbols.write(options.vmlinux, options.place / "symbols/linux/guest.json")
    table = Table()
    try:
        readers = Readers(table, options.python, options.vmlinux, options.place / "symbols")
    except Exception as error:  # pylint: disable=broad-except
        stop(f"the readers do not run: {error}", 69)
    tool = Tool(options.binary, options.place / "store.db", options.place / "images")
    setting = Setting(
        table, tool, readers, options.kernel, initramfs, options.vmlinux, types, options.place,
        options.short,
    )  # fmt: skip
    guarded(table, "a guest in QEMU", live_rows, setting, options.qemu)
    guarded(table, "a guest with a hole in its RAM", hole_rows, setting, options.qemu)
    guarded(table, "a guest in QEMU 10", ten_rows, setting, options.qemu10)
    libvirt_rows(table, options, initramfs)

    print("\n" + table.text(options.markdown))
    failed = sum(not row.passed for row in table.rows)
    passed = len(table.rows) - failed
    print(f"\ninterop: {passed} passed, {failed} failed, {time.monotonic() - start:.0f} s")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
