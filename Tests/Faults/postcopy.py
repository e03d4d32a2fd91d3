"""The door `postcopy` of the part `serving`: a stand-in for a QEMU that a guest is migrated to by postcopy, with a
monitor for servers that come later.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import struct
import time
from pathlib import Path

from attempt import Attempt
from guests import PAGE
from oracle import orderly
from stores import IMAGES
from tool import SECONDS_MAX, Running

_SIZE, _ZERO, _PAGE, _END, _SAME = 0x04, 0x02, 0x08, 0x10, 0x20

# How long nothing may come until the reader takes it for a wait.
_STALL_SECONDS = 1.0


class _Gone(Exception):
    """The server has closed the connection, or nothing comes, or it is time to kill it."""


class Target:
    """Takes the stream, asks for pages, and compares each with the image."""

    def __init__(self, folder: Path, image: bytes, source: random.Random):
        self.folder, self.image, self.source = folder, image, source
        self.failures: list[str] = []
        self.have: set[int] = set()
        self.is_complete = False
        # Whether the guest has begun to run.
        self.runs = False
        self._name = b""
        self._block = b""
        self._asked = False
        self._connection: socket.socket | None = None
        self._buffer = bytearray()
        self._monitor: socket.socket | None = None
        self._incoming = self._listen("incoming")
        self._deadline = 0.0
        self._stall = 0.0

    def close(self) -> None:
        for each in (self._connection, self._incoming, self._monitor):
            if each:
                each.close()

    def missing(self) -> list[str]:
        """Pages that QEMU takes for zeros at the end, and that are not."""
        if not self.is_complete:
            return []
        pages = range(len(self.image) // PAGE)
        lost = [page for page in pages if page not in self.have and any(self._right(page))]
        return [f"wrong bytes: zeros for {len(lost)} pages in QEMU, at {lost[0]:#x}"] if lost else []

    def _right(self, page: int) -> bytes:
        return self.image[page * PAGE : (page + 1) * PAGE]

    def _listen(self, name: str) -> socket.socket:
        path = self.folder / name
        path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX)
        # The folder's path may be longer than a socket's.
        where = os.getcwd()
        os.chdir(self.folder)
        made.bind(name)
        os.chdir(where)
        made.listen(1)
        return made

    def _accept(self, listener: socket.socket, server: Running) -> socket.socket | None:
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            if select.select([listener], [], [], 0.02)[0]:
                return listener.accept()[0]
            if server.has_ended(0) and not select.select([listener], [], [], 0)[0]:
                return None
        return None

    # Serving

    def serve(self, server: Running, stall_seconds: float, limit_seconds: float | None) -> None:
        """Takes what comes until all is there, the server is gone, nothing comes any more, or time is up."""
        if self._connection is None:
            self._connection = self._accept(self._incoming, server)
            if self._connection is None:
                return
            self._buffer = bytearray()
            self._started = False
        self._stall = stall_seconds
        self._deadline = time.monotonic() + (SECONDS_MAX if limit_seconds is None else limit_seconds)
        self._block = b""
        try:
            self._take_stream()
        except (_Gone, ConnectionError):
            pass

    def _read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            seconds = min(self._stall, self._deadline - time.monotonic())
            if seconds <= 0 or not select.select([self._connection], [], [], seconds)[0]:
                raise _Gone
            data = self._connection.recv(1 << 16)
            if not data:
                raise _Gone
            self._buffer += data
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _number(self, form: str) -> int:
        return struct.unpack(">" + form, self._read(struct.calcsize(">" + form)))[0]

    def _answer(self, kind: int, data: bytes) -> None:
        self._connection.sendall(struct.pack(">HH", kind, len(data)) + data)

    def _take_stream(self) -> None:
        if not self._started:
            self._read(8)
            self._started = True
        while True:
            kind = self._number("B")
            if kind == 0x07:
                self._read(self._number("I"))
            elif kind == 0x05:
                # The machine's UUID.
                self._read(self._number("B") + 4 + 16)
            elif kind == 0x08:
                self._take_command()
            elif kind == 0x01:
                self._read(4)
                self._read(self._number("B") + 8)
                self._take_records()
            elif kind in (0x02, 0x03):
                self._read(4)
                self._take_records()
            elif kind == 0x7E:
                self._read(4)
            elif kind == 0x00:
                self.is_complete = True
                self._answer(1, struct.pack(">I", 0))
                return
            else:
                self.failures.append(f"wrong: a section of type {kind:#x} in the stream")
                raise _Gone

    def _take_command(self) -> None:
        command, length = self._number("H"), self._number("H")
        data = self._read(length)
        if command == 2:
            self._answer(2, data)
        elif command == 7:
            self._read(struct.unpack(">I", data)[0])
            # In the package: a ping, and that the guest runs.
            self._answer(2, struct.pack(">I", 3))
            self.runs = True
            self._ask()

    def _take_records(self) -> None:
        while True:
            word = self._number("Q")
            offset, flags = word & ~0xFFF, word & 0xFFF
            if flags & _END:
                break
            if flags & _SIZE:
                left = offset
                while left > 0:
                    name = self._read(self._number("B"))
                    size = self._number("Q")
                    if size == len(self.image):
                        self._name = name
                    left -= size
                continue
            if not flags & _SAME:
                self._block = self._read(self._number("B"))
            data = bytes(PAGE)
            if flags & _ZERO:
                self._read(1)
            else:
                data = self._read(PAGE)
            if self._block == self._name:
                self._take(offset // PAGE, data)
        self._ask()

    def _take(self, page: int, data: bytes) -> None:
        if page in self.have:
            self.failures.append(f"wrong: page {page:#x} is sent twice")
        self.have.add(page)
        if data != self._right(page):
            what = "zeros" if not any(data) else "other bytes"
            self.failures.append(f"wrong bytes: page {page:#x} in QEMU is {what}")

    def _ask(self) -> None:
        """Asks for a page as a guest's fault does, now and then."""
        pages = len(self.image) // PAGE
        if not self.runs or len(self.have) >= pages or self.source.random() < 0.5:
            return
        page = self.source.randrange(pages)
        if page not in self.have:
            data = struct.pack(">QIB", page * PAGE, PAGE, len(self._name)) + self._name
            self._answer(3, data)

    # Recovery

    def listen_for_recovery(self) -> None:
        """Its server is gone: it waits for another one's question on its monitor."""
        self._connection.close()
        self._connection = None
        if self._monitor:
            self._monitor.close()
        self._monitor = self._listen("qmp")

    def take_recovery(self, server: Running) -> bool:
        """Answers the monitor's commands, and takes the new server's connection."""
        monitor = self._accept(self._monitor, server)
        if monitor is None:
            self.failures.append("stuck: no recovery: " + server.finish().line)
            return False
        lines = monitor.makefile("rw")
        lines.write('{"QMP": {"version": {}, "capabilities": ["oob"]}}\n')
        lines.flush()
        listener = None
        while listener is None:
            line = lines.readline()
            if not line:
                self.failures.append("stuck: no recovery: " + server.finish().line)
                return False
            message = json.loads(line)
            command = message.get("exec-oob") or message.get("execute")
            result = {"status": "postcopy-paused"} if command == "query-migrate" else {}
            if command == "migrate-recover":
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(message["arguments"]["uri"].removeprefix("unix:"))
                listener.listen(1)
            lines.write(json.dumps({"return": result, "id": message.get("id")}) + "\n")
            lines.flush()
        self._connection = self._accept(listener, server)
        listener.close()
        if self._connection is None:
            self.failures.append("stuck: no recovery: " + server.finish().line)
            return False
        self._buffer = bytearray()
        self._stall, self._deadline = SECONDS_MAX, time.monotonic() + SECONDS_MAX
        self._started = True
        try:
            self._say_what_is_there()
        except (_Gone, ConnectionError):
            self.failures.append("stuck: a recovery ends: " + server.finish().line)
            return False
        return True

    def _say_what_is_there(self) -> None:
        while True:
            if self._number("B") != 0x08:
                raise _Gone
            command, length = self._number("H"), self._number("H")
            data = self._read(length)
            if command == 10:
                count = (len(self.image) // PAGE + 63) // 64 * 8
                bits = bytearray(count)
                for page in self.have:
                    bits[page >> 3] |= 1 << (page & 7)
                self._answer(5, data)
                self._connection.sendall(struct.pack(">Q", count) + bits + struct.pack(">Q", 0x0123456789ABCDEF))
            elif command == 9:
                self._answer(6, struct.pack(">I", 1))
                return


def serve(attempt: Attempt) -> list[str]:
    """Is the QEMU that gets a guest, asks for pages in any order, and takes other servers when one is gone."""
    tool, folder, fault = attempt.worker.tool, attempt.folder, attempt.fault
    target = Target(folder, IMAGES["p1.ram"], attempt.source)
    try:
        line = ["serve", "p/1", "--qemu", "--connect", "incoming", "--record-working-set", "0"]
        server = attempt.start(line)
        limit = None
        for _ in range(6):
            if attempt.kills:
                limit = attempt.source.uniform(0, 0.25)
            target.serve(server, _STALL_SECONDS, limit)
            if target.is_complete:
                break
            was_killed = limit is not None or not server.has_ended(0.2)
            server.kill() if was_killed else None
            result = server.finish()
            if not was_killed:
                # An injected kill, or an error.
                if not (fault and fault.is_kill and result.code == -9):
                    target.failures += orderly(result)
            if not target.runs:
                # QEMU would end: there is no guest yet.
                return target.failures
            target.listen_for_recovery()
            server = tool.start(["serve", "p/1", "--qemu", "--recover", "qmp"], folder)
            limit = None
            if not target.take_recovery(server):
                return target.failures
            if not attempt.kills:
                target.serve(server, SECONDS_MAX, None)
                break
        if not target.is_complete:
            target.serve(server, SECONDS_MAX, None)
        if not target.is_complete:
            target.failures.append("stuck: QEMU has not all pages, though nothing fails any more")
        server.has_ended(30) or server.kill()
        result = server.finish()
        if result.code != -9 or target.is_complete:
            target.failures += orderly(result)
        return target.failures + target.missing()
    finally:
        target.close()
        if server.process.poll() is None:
            server.kill()
            server.finish()
