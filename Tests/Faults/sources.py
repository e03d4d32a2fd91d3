"""Small valid inputs for the part `inputs`: a snapshot of Propolis and a QEMU migration stream."""

from __future__ import annotations

import io
import json
import struct
import tarfile

import guests

MIB = 1 << 20


def propolis(guest: str) -> tuple[bytes, bytes]:
    """A tar as propolis-standalone writes it, with 1 MiB of RAM, and that RAM."""
    ram = guests.image(guest, MIB // guests.PAGE)
    payload = {
        "msr_guest_os_id": 9295436232257437696,
        "msr_hypercall": 16385,
        "reference_tsc": {"msr_value": 20481, "guest_freq": 2400000000},
    }
    # Each payload's data is JSON in a string.
    state = {"kind": "guest-hyperv-interface", "version": 1, "data": json.dumps(payload)}
    device = json.dumps({"instance_name": "hyperv", "payload": [state]}).encode()
    members = (
        ("config.toml", b'[main]\nname = "vm"\ncpus = 1\nbootrom = "/b"\nmemory = 1\n'),
        ("global.json", b'{"boot_hrtime": 12345}'),
        ("devices/", None),
        ("devices/hyperv.json", device),
        ("devices/uart.json", b'{"instance_name": "uart", "payload": []}'),
        ("memory/", None),
        ("memory/00000000-00100000.bin", ram),
    )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            info.mode = 0o755 if data is None else 0o644
            archive.addfile(info, io.BytesIO(data or b""))
    return out.getvalue(), ram


class _Stream:
    """Numbers and strings as QEMU writes them."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def add(self, form: str, *values: int) -> None:
        self.bytes += struct.pack(">" + form, *values)

    def text(self, text: str) -> None:
        self.bytes += bytes([len(text)]) + text.encode()

    def end(self, section: int) -> None:
        self.add("QBI", 0x10, 0x7E, section)


def qemu_stream(guest: str) -> tuple[bytes, bytes]:
    """A migration stream of a q35 machine with 1 MiB of RAM, and that RAM."""
    ram = guests.image(guest, MIB // guests.PAGE)
    machine = b"pc-q35-7.2"
    stream = _Stream()
    stream.bytes += b"QEVM"
    stream.add("IBI", 3, 7, len(machine))
    stream.bytes += machine
    stream.add("BI", 1, 2)
    stream.text("ram")
    stream.add("IIQ", 0, 4, len(ram) | 4)
    stream.text("pc.ram")
    stream.add("Q", len(ram))
    stream.end(2)
    stream.add("BI", 2, 2)
    for index in range(0, len(ram), guests.PAGE):
        page = ram[index : index + guests.PAGE]
        uniform = page.count(page[0]) == len(page)
        stream.add("Q", index | (0x02 if uniform else 0x08) | (0x20 if index else 0))
        if not index:
            stream.text("pc.ram")
        stream.bytes += page[:1] if uniform else page
    stream.end(2)
    stream.add("BI", 3, 2)
    stream.end(2)
    stream.add("BI", 4, 9)
    stream.text("timer")
    stream.add("IIIBI", 0, 2, 0x01020304, 0x7E, 9)
    description = b'{"page_size": 4096, "devices": [{"name": "timer"}]}'
    stream.add("BBI", 0, 6, len(description))
    return bytes(stream.bytes + description), ram


def elf_core(guest: str) -> tuple[bytes, bytes]:
    """An ELF core as QEMU writes it, with 1 MiB of RAM in two loads, and that RAM."""
    ram = guests.image(guest, MIB // guests.PAGE)
    note = struct.pack("<III8s", 5, 8, 1, b"CORE") + bytes(8)
    half = len(ram) // 2
    table = 192
    notes = table + 3 * 56
    start = notes + len(note)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    core = ident + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, table, 0, 0, 8, 56, 3, 64, 0, 0)
    core = core.ljust(table, b"\0")
    core += struct.pack("<IIQQQQQQ", 4, 0, notes, 0, 0, len(note), len(note), 0)
    for first in (0, half):
        core += struct.pack("<IIQQQQQQ", 1, 0, start + first, first, first, half, half, 0)
    return core + note + ram, ram
