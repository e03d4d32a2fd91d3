"""A small machine in a real QEMU, for the doors `resume`: it runs a program of its own, and needs no kernel.

Each millisecond its program counts in one page and reads one of the others, so that it asks for pages while it runs. No
other page changes, so that all can be compared.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

from guests import PAGE, image
from tool import SECONDS_MAX

PROGRAM = "qemu-system-x86_64"
PAGES = 1024
# It has the count, and the program's stack.
_COUNT_AT = 8 * PAGE
# The first page that the program reads. Those below are beneath ROMs, in part.
_FIRST_AT = 1 << 20
_BASE = 0xF0000
_GDT, _GDT_PLACE, _IDT, _IDT_PLACE = 0x800, 0x900, 0x1000, 0x910
_PROTECTED, _TICK = 0x100, 0x200


def is_there() -> bool:
    return shutil.which(PROGRAM) is not None


def ram() -> bytes:
    """What the machine's RAM has at first. Every other 64 KiB are zeros, which are served in another way."""
    made = bytearray(image("r", PAGES))
    for at in range(0, len(made), 32 * PAGE):
        made[at : at + 16 * PAGE] = bytes(16 * PAGE)
    return bytes(made)


def firmware() -> bytes:
    """The program in place of a BIOS: 64 KiB, of which the last 16 bytes are what a CPU begins with."""
    made = bytearray(64 << 10)

    def put(at: int, data: bytes) -> None:
        made[at : at + len(data)] = data

    # Flat segments, marked as used, since a ROM keeps no such mark.
    put(_GDT + 8, struct.pack("<HHBBBB", 0xFFFF, 0, 0, 0x9B, 0xCF, 0))
    put(_GDT + 16, struct.pack("<HHBBBB", 0xFFFF, 0, 0, 0x93, 0xCF, 0))
    put(_GDT_PLACE, struct.pack("<HI", 23, _BASE + _GDT))
    tick = _BASE + _TICK
    put(_IDT + 0x20 * 8, struct.pack("<HHBBH", tick & 0xFFFF, 8, 0, 0x8E, tick >> 16))
    put(_IDT_PLACE, struct.pack("<HI", 0x21 * 8 - 1, _BASE + _IDT))
    # jmp 0xf000:0
    put(0xFFF0, b"\xea\x00\x00\x00\xf0")
    # cli; lgdt [cs:place]; cr0.PE = 1; jmp 8:protected
    put(0, b"\xfa\x2e\x66\x0f\x01\x16" + struct.pack("<H", _GDT_PLACE))
    put(8, b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0\x66\xea" + struct.pack("<IH", _BASE + _PROTECTED, 8))
    # ds = ss = 0x10; esp = the end of the page of the count; lidt [place]
    code = b"\x66\xb8\x10\x00\x8e\xd8\x8e\xd0\xbc" + struct.pack("<I", _COUNT_AT + PAGE)
    code += b"\x0f\x01\x1d" + struct.pack("<I", _BASE + _IDT_PLACE)
    # The local APIC passes on what the PIC has.
    for register, value in ((0xF0, 0x1FF), (0x350, 0x700)):
        code += b"\xc7\x05" + struct.pack("<II", 0xFEE00000 + register, value)
    # The PIC's interrupts begin at 0x20, and only the timer's comes, each millisecond: mov al, value; out port, al
    pic = ((0x20, 0x11), (0x21, 0x20), (0x21, 0x04), (0x21, 0x01), (0x21, 0xFE))
    for port, value in (*pic, (0x43, 0x34), (0x40, 0xA9), (0x40, 0x04)):
        code += bytes((0xB0, value, 0xE6, port))
    # sti; round: mov ebx, first
    code += b"\xfb"
    start = len(code)
    code += b"\xbb" + struct.pack("<I", _FIRST_AT)
    # page: hlt; inc dword [count]; mov eax, [ebx]; add ebx, 4096; cmp ebx, end; jb page; jmp round
    page = len(code)
    code += b"\xf4\xff\x05" + struct.pack("<I", _COUNT_AT) + b"\x8b\x03\x81\xc3" + struct.pack("<I", PAGE)
    code += b"\x81\xfb" + struct.pack("<I", PAGES * PAGE)
    code += b"\x72" + struct.pack("b", page - len(code) - 2)
    code += b"\xeb" + struct.pack("b", start - len(code) - 2)
    put(_PROTECTED, code)
    # push eax; mov al, 0x20; out 0x20, al; pop eax; iret
    put(_TICK, b"\x50\xb0\x20\xe6\x20\x58\xcf")
    return bytes(made)


def differences(seen: bytes, saved: bytes) -> list[str]:
    """What is wrong of a machine's RAM that was once `saved`: pages, and a count that did not go on."""
    if len(seen) != len(saved):
        return [f"wrong bytes: RAM in QEMU has {len(seen)} bytes"]
    wrong = []
    for at in range(0, len(saved), PAGE):
        data = seen[at : at + PAGE]
        if at != _COUNT_AT and data != saved[at : at + PAGE]:
            wrong.append(f"{at:#x} is {'other bytes' if any(data) else 'zeros'}")
    if wrong:
        return [f"wrong bytes: {len(wrong)} pages in QEMU, at {wrong[0]}"]
    return []


def count(of: bytes) -> int:
    """How many milliseconds the program has counted."""
    return struct.unpack_from("<I", of, _COUNT_AT)[0]


class Machine:
    """A QEMU that runs, seen through its monitor `monitor` in a folder."""

    def __init__(self, folder: Path):
        self._answers = b""
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS_MAX)
        # The folder's path may be longer than a socket's.
        place = os.open(folder, os.O_PATH)
        try:
            self._socket.connect(f"/proc/self/fd/{place}/monitor")
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(place)
        self.pid = struct.unpack("iii", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self._line()
        self.ask("qmp_capabilities")

    def close(self) -> None:
        self._socket.close()

    def wait_at_most(self, seconds: float) -> None:
        """QEMU says nothing while it waits for a page."""
        self._socket.settimeout(seconds)

    def _line(self) -> dict:
        while b"\n" not in self._answers:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("QEMU has closed its monitor")
            self._answers += data
        line, self._answers = self._answers.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command: str, **arguments: str) -> dict | str:
        """A command's answer. Raises OSError when QEMU is gone, or says nothing."""
        self._number += 1
        request = {"execute": command, "arguments": arguments, "id": self._number}
        self._socket.sendall(json.dumps(request).encode())
        while True:
            message = self._line()
            if message.get("id") != self._number:
                # An event, or an answer that came too late.
                continue
            if "error" in message:
                raise RuntimeError(f"QEMU refuses {command}: {message['error']}")
            return message["return"]

    @property
    def state(self) -> str:
        """Whether the guest runs, or why not."""
        return self.ask("query-status")["status"]

    @property
    def migration(self) -> str:
        return self.ask("query-migrate").get("status", "none")

    def ram(self) -> bytes:
        """All of it, ROMs and devices that lie over it left aside. QEMU must have all pages."""
        text = self.ask("human-monitor-command", **{"command-line": "gpa2hva 0"})
        address = int(text.split(" is ")[1], 16)
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(PAGES * PAGE)


def start(folder: Path, home: Path) -> tuple[subprocess.Popen, Machine]:
    """Starts it in `folder`, where it listens at `qmp` and `monitor`; the program and RAM are in `home`."""
    (home / "firmware").write_bytes(firmware())
    (home / "r1.memory").write_bytes(ram())
    backend = f"memory-backend-file,id=ram,size={PAGES * PAGE},share=on,mem-path={home}/r1.memory"
    line = [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-bios", f"{home}/firmware"]
    line += ["-machine", "q35,accel=tcg,memory-backend=ram", "-m", "4M", "-object", backend]
    for name in ("qmp", "monitor"):
        line += ["-qmp", f"unix:{name},server=on,wait=off"]
    process = subprocess.Popen(line, cwd=folder, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return process, Machine(folder)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError("a small machine does not run in QEMU") from None
        time.sleep(0.01)
