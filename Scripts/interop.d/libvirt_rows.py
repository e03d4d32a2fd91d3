"""Domains of libvirt, which virsh and `vmckpt` save. Runs beside the daemon that `libvirt` starts.

It writes its rows to a file, which interop.py reads.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from guest import COMMAND_LINE, MEMORY_MIB, Console, Facts, went_on
from images import Tool
from table import Row, Table, as_dictionary, require, run, say

DOMAIN = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>{command_line}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>{qemu}</emulator>
    <serial type='file'><source path='{console}' append='on'/><target port='0'/></serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Domain:
    """A domain that runs the guest."""

    def __init__(self, name: str, settings: argparse.Namespace) -> None:
        self.name = name
        self.settings = settings
        self.place: Path = settings.place / name
        self.place.mkdir(parents=True)
        self.console = Console(self.place / "console")

    def create(self) -> Facts:
        """Starts it; returns what the guest says."""
        xml = self.place / "domain.xml"
        xml.write_text(
            DOMAIN.format(
                name=self.name,
                memory=MEMORY_MIB,
                kernel=self.settings.kernel,
                initramfs=self.settings.initramfs,
                command_line=COMMAND_LINE,
                qemu=self.settings.qemu,
                console=self.console.path,
            ),
            encoding="utf-8",
        )
        self.virsh("create", xml)
        self.console.wait_for_counts(3)
        return self.console.facts()

    def virsh(self, *arguments: object) -> str:
        """Runs virsh."""
        return run(["virsh", "-q", *arguments], timeout=240)

    def state(self) -> str:
        """Such as `running`."""
        return self.virsh("domstate", self.name).strip()


def save_rows(
    table: Table, tool: Tool, virsh: tuple[str, str], settings: argparse.Namespace
) -> None:
    """A domain is saved while it runs; then virsh save → save → restore → virsh restore."""
    domain = Domain("interop-save", settings)
    facts = domain.create()
    earlier = domain.console.counts()

    def live() -> str:
        uri = os.environ["LIBVIRT_DEFAULT_URI"]
        tool.save(f"libvirt:{domain.name}", "running", "--connect", uri)
        require(domain.state() == "running", f"the domain is {domain.state()}")
        require(facts.nonce.encode() in tool.ram("running")[0], "the guest's nonce is not in RAM")
        counts = domain.console.wait_for_counts(len(domain.console.counts()) + 2)
        return went_on(earlier, counts[len(earlier) :])

    table.ask(tool.name, "a running domain", "save libvirt:, live", live)
    image = domain.place / "saved"
    domain.virsh("save", domain.name, image)
    before = domain.console.counts()
    ours = tool.name

    def save() -> str:
        tool.save(image, "libvirt")
        require(facts.nonce.encode() in tool.ram("libvirt")[0], "the guest's nonce is not in RAM")
        states = tool.show("libvirt")["device_states"]
        return "RAM with the guest's nonce; " + ", ".join(state["name"] for state in states)

    if not table.ask(ours, "virsh save", "save", save):
        return

    def restore() -> str:
        path = tool.restore("libvirt", "libvirt-save")
        domain.virsh("restore", path)
        require(domain.state() == "running", f"the domain is {domain.state()}")
        counts = domain.console.wait_for_counts(len(before) + 3)
        return went_on(before, counts[len(before) :])

    table.ask(virsh, "virsh save → save → restore --format libvirt-save",
              "virsh restore; goes on counting", restore)  # fmt: skip
    domain.virsh("destroy", domain.name)


def dump_rows(table: Table, tool: Tool, settings: argparse.Namespace) -> None:
    """virsh dump --memory-only of a paused domain, beside a save of the same moment."""
    domain = Domain("interop-dump", settings)
    domain.create()
    domain.virsh("suspend", domain.name)
    ours = tool.name
    forms = ("elf", "kdump-zlib")
    for form in forms:
        dump = domain.place / f"dump.{form}"
        domain.virsh("dump", domain.name, dump, "--memory-only", "--format", form)
    image = domain.place / "saved"
    domain.virsh("save", domain.name, image)
    tool.save(image, "suspended")
    for form in forms:

        def dump_read(form: str = form) -> str:
            tool.save(domain.place / f"dump.{form}", f"dump-{form}")
            return tool.require_same_ram(f"dump-{form}", "suspended")

        source = f"virsh dump --memory-only --format {form}"
        table.ask(ours, source, "save; RAM as by virsh save", dump_read)


def main() -> None:
    """Writes the rows to a file, one after the other, and shows them."""
    parser = argparse.ArgumentParser()
    for name in ("binary", "kernel", "initramfs", "qemu", "place", "rows"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    settings = parser.parse_args()
    settings.place.mkdir(parents=True, exist_ok=True)
    with settings.rows.open("w", encoding="utf-8") as file:

        def emit(row: Row) -> None:
            say(row)
            file.write(json.dumps(as_dictionary(row)) + "\n")
            file.flush()

        table = Table(emit)
        tool = Tool(settings.binary, settings.place / "store.db", settings.place / "images")
        virsh = ("libvirt", run(["virsh", "--version"]).strip())
        for rows in (
            lambda: save_rows(table, tool, virsh, settings),
            lambda: dump_rows(table, tool, settings),
        ):
            start = time.monotonic()
            try:
                rows()
            except Exception as error:  # pylint: disable=broad-except
                # A domain that does not start is a row as well.
                seconds = time.monotonic() - start
                text = f"{type(error).__name__}: {error}"
                table.add(Row(*virsh, "a domain", "to run", text, seconds, False))


if __name__ == "__main__":
    main()
