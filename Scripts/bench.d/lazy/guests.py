"""Real guests in QEMU without KVM, which report on their serial line: they boot, are saved while they run, and go
on in a QEMU that waits for a migration."""

import atexit
import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from common import MIB, Tool, wait_until

QEMU = os.environ.get("VMCKPT_BENCH_QEMU", "qemu-system-x86_64")
APPEND = "console=ttyS0 quiet panic=-1 no_timer_check"
STEP = re.compile(rb"^(?:STEP|COUNT) (\d+) ([0-9a-f]{32})")


class Monitor:
    """A connection to QEMU's monitor."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

        def connect():
            try:
                self.socket.connect(path)
                return True
            except (FileNotFoundError, ConnectionRefusedError):
                return False

        wait_until("QEMU's monitor", connect)
        self.file = self.socket.makefile("rwb", buffering=0)
        self.events = []
        self.file.readline()
        self.run("qmp_capabilities")

    def send(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")

    def read(self):
        line = self.file.readline()
        if not line:
            sys.exit("lazy: QEMU has closed its monitor")
        message = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    def run(self, command, **arguments):
        self.send(command, **arguments)
        while True:
            message = self.read()
            if "error" in message:
                sys.exit(f"lazy: QEMU refuses {command}: {message['error']}")
            if "return" in message:
                return message["return"]

    def event(self, name):
        """When an event came, as the host's clock has it."""
        while True:
            for event in self.events:
                if event["event"] == name:
                    return event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
            self.read()


class Process:
    """A program with a guest's serial line on its standard output."""

    def __init__(self, command, place, environment=None):
        os.makedirs(place, exist_ok=True)
        self.errors_path = os.path.join(place, "errors")
        with open(self.errors_path, "wb") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=place,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        # When a measurement fails, no QEMU is left.
        atexit.register(self.kill)
        # When each whole line of the guest's came, and the line.
        self.lines = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append((time.time(), line))

    def errors(self):
        with open(self.errors_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def report(self):
        """The JSON that a server has printed: on standard error, where standard output carries the stream."""
        text = self.errors() + b"".join(line for _, line in list(self.lines)).decode(errors="replace")
        return json.loads(text[text.index("{\n") :])

    def steps(self):
        """When the guest has reported which step, and its nonce."""
        found = []
        for when, line in list(self.lines):
            if match := STEP.match(line):
                found.append((when, int(match[1]), match[2]))
        return found

    def wait_for_steps(self, count):
        def reached():
            if self.process.poll() is not None:
                sys.exit(f"lazy: QEMU has ended: {self.errors()}")
            steps = self.steps()
            return steps if len(steps) >= count else None

        return wait_until(f"{count} steps of the guest", reached, 1800)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.thread.join()
        atexit.unregister(self.kill)


class Recipe:
    """A machine, and what runs in it."""

    def __init__(self, tool: Tool, name, memory_mib, kernel, initramfs, append=""):
        self.tool, self.name = tool, name
        self.memory_mib = memory_mib
        self.byte_count = memory_mib * MIB
        self.machine = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"]
        self.machine += ["-cpu", "max", "-m", f"{memory_mib}M", "-kernel", kernel, "-initrd", initramfs]
        self.machine += ["-append", f"{APPEND} {append}", "-serial", "stdio"]
        self.machine += ["-qmp", "unix:qmp,server=on,wait=off"]
        # What the guest had printed when it was saved.
        self.last_step, self.nonce = -1, b""

    def twin(self):
        """The same guest under another name, which has a working set of its own."""
        twin, stream = copy.copy(self), self.place("stream")
        twin.name = f"{self.name}-twin"
        self.tool.run("restore", self.name, "--format", "qemu-stream", "-o", stream)
        self.tool.run("save", f"qemu-stream:{stream}", "--name", twin.name, "--vm", twin.name)
        os.remove(stream)
        return twin

    def place(self, part):
        return os.path.join(self.tool.work, f"{self.name}-{part}")

    def save(self, step_count):
        """Boots the guest, and saves it while it runs."""
        place = self.place("saved")
        guest = Process(self.machine + ["-machine", "q35"], place)
        steps = guest.wait_for_steps(step_count)
        self.tool.run(
            "save", f"qemu:{place}/qmp", "--name", self.name, "--vm", self.name, "--leave-stopped"
        )
        self.last_step, self.nonce = guest.steps()[-1][1], steps[-1][2]
        guest.kill()

    def backend(self, ram_path=None, shared=False):
        kind = "memory-backend-memfd,share=on" if shared else "memory-backend-ram"
        if ram_path:
            kind = f"memory-backend-file,share=off,mem-path={ram_path}"
        backend = f"{kind},id=pc.ram,size={self.memory_mib}M"
        return ["-object", backend, "-machine", "q35,memory-backend=pc.ram"]


class Start:
    """A QEMU that waits for a migration, and then goes on with a guest."""

    def __init__(self, recipe: Recipe, part, ram_path=None, options=(), capabilities=()):
        self.recipe = recipe
        place = recipe.place(part)
        self.guest = Process(
            recipe.machine + recipe.backend(ram_path) + list(options) + ["-incoming", "defer"], place
        )
        self.monitor = Monitor(f"{place}/qmp")
        self.place = place
        states = [{"capability": name, "state": True} for name in capabilities]
        if states:
            self.monitor.run("migrate-set-capabilities", capabilities=states)
        self.begin = 0.0

    def go(self, uri):
        self.begin = time.time()
        self.monitor.run("migrate-incoming", uri=uri)

    def seconds_to_resume(self):
        return self.monitor.event("RESUME") - self.begin

    def seconds_to_steps(self, count):
        """From the beginning until the guest has done so many steps of its work, none of them wrong."""
        steps = self.guest.wait_for_steps(count)
        self.check(steps)
        return steps[count - 1][0] - self.begin

    def check(self, steps):
        """The guest goes on from the number that it had, and has the nonce that is only in its RAM."""
        numbers = [number for _, number, _ in steps]
        first = numbers[0]
        if (
            numbers != list(range(first, first + len(numbers)))
            or not 0 <= first <= self.recipe.last_step + 2
            or any(nonce != self.recipe.nonce for _, _, nonce in steps)
        ):
            sys.exit(f"lazy: the guest is not the one that was saved: {steps[:3]}")

    def wait_for_pages(self):
        """Waits until QEMU has all pages, and returns what it says of the migration."""

        def completed():
            answer = self.monitor.run("query-migrate")
            if answer.get("status") == "failed":
                sys.exit(f"lazy: the migration failed: {self.guest.errors()}")
            return answer if answer.get("status") == "completed" else None

        return wait_until("QEMU has all pages", completed, 300)

    def end(self):
        self.guest.kill()
