"""A guest that is saved live from QEMU, shown to the readers; and what QEMU itself writes of it."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from guest import MEMORY_MIB, Clone, Count, Facts, Guest, Monitor, went_on, went_on_between
from images import Tool, first_bytes, require_filtered, require_same
from readers import Crash, Readers
from table import Table, require, run

OFFSET = 0x10830


@dataclass
class Setting:
    """What all rows have in common."""

    table: Table
    tool: Tool
    readers: Readers
    kernel: Path
    initramfs: Path
    vmlinux: Path
    types: str
    """SHA-256 of the BTF that the symbols are made from."""
    place: Path
    short: bool

    def check(self, facts: Facts) -> None:
        """The symbols have to be those of the guest's own BTF."""
        require(facts.types == self.types, "the guest's kernel has other types than the symbols")


def qemu_name(qemu: Path) -> tuple[str, str]:
    """The reader's name of a QEMU."""
    match = re.search(r"version ([0-9.]+)", run([qemu, "--version"]))
    return ("QEMU", match[1] if match else "?")


def live_rows(setting: Setting, qemu: Path) -> None:
    """A running guest is saved; every reader gets it, in every format that it reads."""
    table, tool, readers = setting.table, setting.tool, setting.readers
    name = qemu_name(qemu)
    ours = tool.name
    place = setting.place / f"live-{name[1]}"
    facts: Facts
    dump = place / "dump.elf"
    kdump = place / "dump.kdump"

    with Guest(qemu, setting.kernel, setting.initramfs, place) as guest:
        facts = guest.boot()
        setting.check(facts)
        earlier = guest.console.counts()

        def save() -> str:
            tool.save(f"qemu:{guest.socket}", "live")
            counts = guest.console.wait_for_counts(len(guest.console.counts()) + 2)
            return went_on(earlier, counts[len(earlier) :])

        require(table.ask(ours, f"a guest in QEMU {name[1]}", "save qemu:, live", save), "no save")
        # The same moment by QEMU's own hand: the guest stands still for all that follows.
        monitor = guest.monitor()
        monitor.run("stop")
        before = guest.console.counts()
        monitor.run("dump-guest-memory", paging=False, protocol=f"file:{dump}")
        monitor.run(
            "dump-guest-memory", paging=False, protocol=f"file:{kdump}", format="kdump-zlib"
        )
        paging = place / "paging.elf"
        monitor.run("dump-guest-memory", paging=True, protocol=f"file:{paging}")
        tool.save(f"qemu:{guest.socket}", "paused")

    def same(path: Path, snapshot: str) -> str:
        tool.save(path, snapshot)
        return tool.require_same_ram(snapshot, "paused")

    for path, form in ((dump, "ELF"), (paging, "ELF with paging"), (kdump, "kdump-zlib")):
        source = f"dump-guest-memory, {form}"
        table.ask(ours, source, "save; RAM as by qemu:", lambda path=path: same(path, path.name))

    elf = tool.restore("live", "elf")
    readers.ask_volatility(elf, "restore --format elf", facts)
    readers.ask_volatility(tool.restore("live", "raw"), "restore --format raw", facts)
    readers.ask_volatility(tool.restore("live", "lime"), "restore --format lime", facts)
    stream = tool.restore("live", "qemu-stream")
    # Of QEMU's own streams volatility3 2.28 lists no processes either.
    readers.ask_volatility(stream, "restore --format qemu-stream", facts, lists_processes=False)
    readers.ask_drgn(elf, "restore --format elf", facts)
    for path, form in ((dump, "ELF"), (kdump, "kdump-zlib")):
        snapshot = tool.restore(path.name, "elf")
        readers.ask_drgn(snapshot, f"dump-guest-memory, {form} → save → restore", facts)
    converted = tool.convert(kdump, "elf")
    readers.ask_drgn(converted, "dump-guest-memory, kdump-zlib → convert --format elf", facts)
    # makedumpfile refuses QEMU's own ELF cores: their program headers are in another place.
    own = tool.restore(dump.name, "elf")
    source = "dump-guest-memory, ELF → save → restore"
    readers.filter(own, source, setting.place / "filtered.dump", "-c")
    filter_rows(setting, elf, facts)
    resume_rows(setting, name, earlier, before)
    if not setting.short:
        crash_rows(setting, dump, facts)


def filter_rows(setting: Setting, elf: Path, facts: Facts) -> None:
    """makedumpfile filters an ELF core of ours, and `vmckpt` reads what it has written."""
    table, tool, readers = setting.table, setting.tool, setting.readers
    ours = tool.name
    forms = [("zlib", "-c"), ("lzo", "-l"), ("flattened", "-c", "-F"), ("elf", "-E")]
    for form, *options in forms:
        path = setting.place / f"filtered.{form}"
        if form == "flattened":
            made = flatten(setting, elf, path)
        else:
            made = readers.filter(elf, "restore --format elf", path, *options)
        if not made:
            continue
        source = f"makedumpfile {' '.join(options)} -d 31"

        def read(path: Path = path, form: str = form) -> str:
            tool.save(path, f"filtered-{form}")
            name = f"filtered-{form}"
            return require_filtered(tool.ram(name), tool.ram("live")[0], tool.absent_count(name))

        if table.ask(ours, source, "save; RAM as before", read) and form in ("zlib", "elf"):
            if form == "zlib":
                readers.ask_drgn(path, source, facts)
            back = tool.restore(f"filtered-{form}", "elf")
            readers.ask_drgn(back, f"{source} → save → restore", facts)


def flatten(setting: Setting, elf: Path, target: Path) -> bool:
    """A flattened dump goes to a pipe."""

    def answer() -> str:
        script = 'exec makedumpfile -c -F -d 31 "$1" >"$2"'
        run(["/bin/sh", "-c", script, "sh", elf, target])
        require(target.stat().st_size > 1 << 20, "wrote nearly nothing")
        return f"{target.stat().st_size / 1e6:.0f} MB"

    name = setting.readers.makedumpfile
    return setting.table.ask(name, "restore --format elf", "-c -F -d 31", answer)


def wait_until_paused(monitor: Monitor) -> None:
    """A guest that was saved while it stood still is stopped when all has come in."""
    deadline = time.monotonic() + 120
    while monitor.run("query-status")["status"] != "paused":
        require(time.monotonic() < deadline, "the guest does not come in")
        time.sleep(0.05)


def resume_rows(
    setting: Setting, name: tuple[str, str], earlier: list[Count], later: list[Count]
) -> None:
    """The guest goes on in QEMU from what is restored."""

    def clone() -> str:
        directory = setting.tool.restore("live", "qemu")
        with Clone(directory / "run.sh", setting.place / f"clone-{name[1]}") as guest:
            return went_on_between(earlier, later, guest.console.wait_for_counts(3))

    setting.table.ask(name, "restore --format qemu", "goes on counting", clone)


def crash_rows(setting: Setting, dump: Path, facts: Facts) -> None:
    """crash takes long to begin, and has its rows in the long form only."""
    crash = Crash(setting.table, setting.vmlinux, setting.place)
    tool = setting.tool
    reference = crash.ask(dump, "dump-guest-memory, ELF (QEMU's own)", facts)
    elf = tool.restore("paused", "elf")
    crash.ask(elf, "restore --format elf", facts, reference=reference)
    filtered = setting.place / "filtered.zlib"
    if filtered.exists():
        crash.ask(filtered, "makedumpfile -c -d 31", facts)
    # A flat file does not say where the kernel is: crash is told, from the guest's VMCOREINFO.
    with elf.open("rb") as file:
        notes = file.read(1 << 16).decode("latin-1")
    offset = re.search(r"KERNELOFFSET=([0-9a-f]+)", notes)
    base = re.search(r"NUMBER\(phys_base\)=(-?\d+)", notes)
    require(offset is not None and base is not None, "the ELF core has no VMCOREINFO")
    options = [f"--kaslr=0x{offset[1]}", "-m", f"phys_base={int(base[1]) % (1 << 64):#x}"]
    source = "restore --format raw, with --kaslr and phys_base"
    crash.ask(f"{tool.restore('paused', 'raw')}@0", source, facts, *options)


def hole_rows(setting: Setting, qemu: Path) -> None:
    """RAM on both sides of the hole below 4 GiB."""
    tool, readers = setting.tool, setting.readers
    place = setting.place / "hole"
    machine = "q35,max-ram-below-4g=128M"
    with Guest(qemu, setting.kernel, setting.initramfs, place, machine=machine) as guest:
        facts = guest.boot()
        tool.save(f"qemu:{guest.socket}", "hole")
    regions = [region["gpa"] for region in tool.show("hole")["memory_regions"]]
    require(regions == [0, 1 << 32], f"the guest has RAM at {regions}")
    source = "restore --format elf, RAM at 0 and 4 GiB"
    elf = tool.restore("hole", "elf")
    readers.ask_drgn(elf, source, facts)
    readers.ask_volatility(elf, source, facts)
    readers.filter(elf, source, setting.place / "filtered.hole", "-c")


def ten_rows(setting: Setting, qemu: Path) -> None:
    """QEMU 10: saved live, and by files that it writes itself."""
    table, tool, readers = setting.table, setting.tool, setting.readers
    name = qemu_name(qemu)
    ours = tool.name
    place = setting.place / f"live-{name[1]}"
    ram = setting.place / "ten.ram"
    # This processor has page tables of five levels, and Linux uses them.
    with Guest(qemu, setting.kernel, setting.initramfs, place, ram, cpu="max") as guest:
        facts = guest.boot()
        setting.check(facts)
        earlier = guest.console.counts()

        def save() -> str:
            tool.save(f"qemu:{guest.socket}", "ten")
            counts = guest.console.wait_for_counts(len(guest.console.counts()) + 2)
            return went_on(earlier, counts[len(earlier) :])

        require(table.ask(ours, f"a guest in QEMU {name[1]}", "save qemu:, live", save), "no save")
        monitor = guest.monitor()
        monitor.run("stop")
        last = guest.console.counts()
        mapped = place / "mapped"
        monitor.migrate(f"file:{mapped},offset={OFFSET}", ("mapped-ram",))

    source = f"QEMU {name[1]}, mapped-ram"
    elf = tool.restore("ten", "elf")
    saved = f"QEMU {name[1]} → save → restore --format elf, five levels of page tables"
    readers.ask_drgn(elf, saved, facts)
    # volatility3 2.28 walks four levels.
    readers.ask_volatility(elf, saved, facts, lists_processes=False)
    readers.filter(elf, saved, setting.place / "filtered.ten", "-c")

    def read() -> str:
        stream = place / "stream"
        with mapped.open("rb") as file, stream.open("wb") as target:
            file.seek(OFFSET)
            shutil.copyfileobj(file, target)
        tool.save(f"qemu-stream:{stream}", "mapped")
        return require_same(tool.ram("mapped")[0], first_bytes(ram, MEMORY_MIB << 20))

    if not table.ask(ours, f"{source}, at an offset", "save; RAM as QEMU's", read):
        return
    readers.ask_drgn(tool.restore("mapped", "elf"), f"{source} → save → restore", facts)

    def incoming() -> str:
        stream = tool.restore("mapped", "qemu-stream")
        with Guest(
            qemu,
            setting.kernel,
            setting.initramfs,
            setting.place / "incoming-10",
            setting.place / "incoming.ram",
            cpu="max",
            incoming=f"exec:cat {stream}",
        ) as guest:
            monitor = guest.monitor()
            wait_until_paused(monitor)
            monitor.run("cont")
            return went_on(last, guest.console.wait_for_counts(3))

    streamed = f"{source} → save → restore --format qemu-stream"
    table.ask(name, streamed, "goes on counting", incoming)

    def resume() -> str:
        with Clone(tool.restore("ten", "qemu") / "run.sh", setting.place / "clone-10") as guest:
            return went_on_between(earlier, last, guest.console.wait_for_counts(3))

    scripted = f"QEMU {name[1]} → save → restore --format qemu"
    table.ask(name, scripted, "goes on counting", resume)
