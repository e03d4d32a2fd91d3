"""A Debian guest in QEMU without KVM that says what a reader of its RAM must find."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from table import Failure, require

MEMORY_MIB = 256
# On a busy machine the timer of a guest without KVM may fail the test that Linux does of it.
COMMAND_LINE = "console=ttyS0 quiet panic=-1 no_timer_check interval=0.2"


@dataclass(frozen=True)
class Count:
    """A number that the guest printed, with the nonce that is only in its RAM."""

    number: int
    nonce: str


class Console:
    """What a guest has printed on its serial port, which is a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """The complete lines."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8", errors="replace")
        return [line.rstrip("\r") for line in text.split("\n")[:-1]]

    def counts(self) -> list[Count]:
        """The numbers, in the order of printing."""
        found = (re.fullmatch(r"COUNT (\d+) ([0-9a-f]{32})", line) for line in self.lines())
        return [Count(int(match[1]), match[2]) for match in found if match]

    def wait_for_counts(self, count: int, timeout: float = 240) -> list[Count]:
        """Waits until the guest has printed `count` numbers; returns all."""
        deadline = time.monotonic() + timeout
        while True:
            counts = self.counts()
            if len(counts) >= count:
                return counts
            if time.monotonic() > deadline:
                raise Failure(f"the guest printed {len(counts)} of {count} numbers")
            time.sleep(0.05)

    def facts(self) -> Facts:
        """What the guest says about itself, after its first number."""
        lines = self.lines()
        version = [line[8:] for line in lines if line.startswith("VERSION ")]
        types = [line.split()[1] for line in lines if line.startswith("TYPES ")]
        processes: dict[int, str] = {}
        for line in lines:
            match = re.match(r"PROCESS (\d+) \((.*)\) \S", line)
            if match:
                processes[int(match[1])] = match[2]
        require(len(version) == 1 and len(types) == 1, "the guest does not say what it is")
        return Facts(version[0], types[0], processes, self.counts()[0].nonce)


@dataclass(frozen=True)
class Facts:
    """What a reader must find in the guest's RAM."""

    version: str
    """The kernel's banner."""
    types: str
    """SHA-256 of the kernel's BTF."""
    processes: dict[int, str]
    """Names by process id, some moments before the guest was saved."""
    nonce: str

    @property
    def lasting(self) -> set[tuple[int, str]]:
        """Processes that stay, as task_struct names them. Kernel workers come and go."""
        named = {(pid, name[:15]) for pid, name in self.processes.items()}
        return {(pid, name) for pid, name in named if not name.startswith("kworker/")}

    def check_processes(self, found: set[tuple[int, str]]) -> str:
        """Compares what a reader lists with what is there; returns what the table says."""
        missing = sorted(self.lasting - found)
        require(not missing, f"of {len(self.lasting)} processes {missing[:3]} are missing")
        ours = {name for _, name in found if name.startswith("interop-")}
        require(ours == {"interop-one", "interop-two", "interop-three"}, f"names {sorted(ours)}")
        # The guest waits for its next number in a process, and workers begin; nothing else does.
        others = {name for _, name in found - self.lasting}
        strange = {name for name in others if not re.match(r"kworker/|busybox$|sleep$|init$", name)}
        require(not strange, f"lists {sorted(strange)}, which the guest does not")
        return f"{len(found)} processes, all {len(self.lasting)} lasting ones of the guest"


def went_on(before: list[Count], after: list[Count]) -> str:
    """Whether `after` are the next numbers of the same guest; returns what the table says."""
    return went_on_between(before, before, after)


def went_on_between(earlier: list[Count], later: list[Count], after: list[Count]) -> str:
    """Whether `after` goes on from a moment between the last of `earlier` and the last of `later`.

    Returns what the table says.
    """
    first = after[0]
    require(all(count.nonce == later[-1].nonce for count in after), "it is another guest")
    numbers = [count.number for count in after]
    require(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"counts {numbers}")
    # One number may have been on its way to the serial port when the guest was captured.
    low, high = earlier[-1].number, later[-1].number + 1
    require(low <= first.number <= high, f"goes on at {first.number}, not at {low} to {high}")
    return f"counts on at {first.number}"


class Monitor:
    """QEMU's QMP."""

    def __init__(self, path: Path, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(120)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.stream = self.socket.makefile("rw", encoding="utf-8")
        self.stream.readline()
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: object) -> object:
        """The result of a command."""
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            line = self.stream.readline()
            require(line != "", "QEMU has ended")
            reply = json.loads(line)
            if "error" in reply:
                raise Failure(f"QEMU refuses {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def migrate(self, uri: str, capabilities: tuple[str, ...] = ()) -> None:
        """Migrates to `uri` and waits until that is done."""
        wanted = [{"capability": name, "state": True} for name in capabilities]
        self.run("migrate-set-capabilities", capabilities=wanted)
        self.run("migrate", uri=uri)
        deadline = time.monotonic() + 240
        while True:
            state = self.run("query-migrate")["status"]
            if state == "completed":
                return
            require(state not in ("failed", "cancelled"), f"the migration to {uri}: {state}")
            require(time.monotonic() < deadline, f"the migration to {uri} does not end")
            time.sleep(0.05)


class Guest:
    """A guest that runs; QEMU ends with it."""

    def __init__(
        self,
        qemu: Path,
        kernel: Path,
        initramfs: Path,
        place: Path,
        ram: Path | None = None,
        machine: str = "q35",
        cpu: str = "max,la57=off",
        incoming: str | None = None,
    ) -> None:
        place.mkdir(parents=True)
        self.console = Console(place / "console")
        self.socket = place / "qmp"
        arguments: list[object] = [qemu, "-nodefaults", "-no-user-config", "-no-reboot"]
        arguments += ["-display", "none", "-accel", "tcg", "-cpu", cpu, "-smp", "2"]
        arguments += ["-m", f"{MEMORY_MIB}M", "-vga", "std", "-kernel", kernel]
        arguments += ["-initrd", initramfs, "-append", COMMAND_LINE, "-serial", "file:console"]
        for name in ("qmp", "qmp2"):
            arguments += ["-qmp", f"unix:{name},server=on,wait=off"]
        if ram is not None:
            backend = f"memory-backend-file,id=pc.ram,size={MEMORY_MIB}M,mem-path={ram},share=on"
            arguments += ["-object", backend]
            machine += ",memory-backend=pc.ram"
        if incoming is not None:
            arguments += ["-incoming", incoming]
        self.log = (place / "log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [str(argument) for argument in [*arguments, "-machine", machine]],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self.place = place

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def monitor(self) -> Monitor:
        """A connection to the second monitor, so that the first is free for `vmckpt`."""
        return Monitor(self.place / "qmp2")

    def boot(self) -> Facts:
        """Waits until the guest counts."""
        try:
            self.console.wait_for_counts(2)
        except Failure as error:
            said = (self.place / "log").read_text(encoding="utf-8", errors="replace").strip()
            raise Failure(f"{error}; QEMU says: {said or 'nothing'}") from error
        return self.console.facts()

    def kill(self) -> None:
        """Ends QEMU without warning."""
        self.process.kill()
        self.process.wait()
        self.log.close()


class Clone:
    """A guest that runs from what `vmckpt restore --format qemu` has made."""

    def __init__(self, script: Path, place: Path) -> None:
        place.mkdir(parents=True)
        self.console = Console(place / "console")
        self.place = place
        with (place / "log").open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [str(script)],
                env={"PATH": "/usr/bin:/bin", "VMCKPT_WORKING_DIRECTORY": str(place)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Clone:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def monitor(self) -> Monitor:
        """A connection to its second monitor."""
        return Monitor(self.place / "qmp2")
