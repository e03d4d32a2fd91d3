"""The programs that read images of a guest's RAM, and what each is asked."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from guest import Facts
from table import Table, require, run


class Readers:
    """The readers, with what they need to know of the guest's kernel."""

    def __init__(self, table: Table, python: Path, vmlinux: Path, symbols: Path) -> None:
        self.table = table
        self.python = python
        self.vmlinux = vmlinux
        self.symbols = symbols
        self.cache = symbols.parent / "volatility-cache"
        self.cache.mkdir(parents=True, exist_ok=True)
        script = "from importlib.metadata import version as v; print(v('drgn'), v('volatility3'))"
        drgn, volatility = run([python, "-c", script]).split()
        self.drgn = ("drgn", drgn)
        self.volatility = ("volatility3", volatility)
        version = re.search(r"version ([0-9.]+)", run(["makedumpfile", "-v"], merge=True))
        self.makedumpfile = ("makedumpfile", version[1] if version else "?")

    # MARK: volatility3

    def ask_volatility(
        self, image: Path, source: str, facts: Facts, lists_processes: bool = True
    ) -> None:
        """Asks for the kernel's banner, and for the processes."""

        def banners() -> str:
            found = [str(row["Banner"]) for row in self.plugin(image, "banners.Banners")]
            require(facts.version in (banner.strip() for banner in found), "not the guest's banner")
            return f"the guest's, {facts.version.split()[2]}"

        def processes() -> str:
            rows = self.plugin(image, "linux.pslist.PsList")
            return facts.check_processes({(int(row["PID"]), str(row["COMM"])) for row in rows})

        self.table.ask(self.volatility, source, "banners", banners)
        if lists_processes:
            self.table.ask(self.volatility, source, "linux.pslist", processes)

    def plugin(self, image: Path, name: str) -> list[dict[str, object]]:
        """The rows of a plugin."""
        output = run(
            [self.python.parent / "vol", "-q", "--offline", "-s", self.symbols, "--cache-path",
             self.cache, "-r", "json", "-f", image, name],
            environment=os.environ | {"XDG_CACHE_HOME": str(self.cache)},
        )  # fmt: skip
        start = output.find("[")
        require(start >= 0, f"{name} prints no rows")
        return json.loads(output[start:])

    # MARK: drgn

    def ask_drgn(self, image: Path, source: str, facts: Facts, processors: int = 2) -> None:
        """Asks for every task, the stack of each processor, and the kernel's log."""

        def answer() -> str:
            script = Path(__file__).with_name("drgn_guest.py")
            found = json.loads(run([self.python, script, image, self.vmlinux]))
            tasks = {(int(pid), str(name)) for pid, name in found["tasks"]}
            listed = facts.check_processes(tasks)
            require(f"interop-log {facts.nonce}" in found["log"], "the log is not the guest's")
            stacks = list(found["stacks"].values())
            require(len(stacks) == processors, f"stacks of {len(stacks)} processors")
            # Where the processor's registers are wrong, there is one frame without a sound name.
            for stack in stacks:
                require(len(stack) >= 3 and None not in stack, f"the stack is {stack[:3]}")
            depths = " and ".join(str(len(stack)) for stack in stacks)
            return f"{listed}; stacks of {depths} frames; its log"

        self.table.ask(self.drgn, source, "tasks, stacks, log", answer)

    # MARK: makedumpfile

    def filter(self, image: Path, source: str, target: Path, *options: str) -> bool:
        """Lets makedumpfile filter an image: it has to find its way in the guest's page tables."""

        def answer() -> str:
            output = run(["makedumpfile", *options, "-d", "31", image, target], merge=True)
            require("makedumpfile Completed" in output, "did not complete")
            require(target.stat().st_size > 1 << 20, "wrote nearly nothing")
            return f"{target.stat().st_size / 1e6:.0f} MB"

        return self.table.ask(self.makedumpfile, source, " ".join([*options, "-d 31"]), answer)


class Crash:
    """`crash` with Debian's debug kernel.

    It is asked the same of QEMU's own dump of that moment. Version 8.0 lists only two tasks of
    Debian's 6.1 kernels, in QEMU's dump as well; so the kernel's own list gives the processes.
    """

    COMMANDS = {
        "ps": "ps",
        "log": "log",
        "bt -a": "bt -a",
        "list init_task": "list task_struct.tasks -s task_struct.pid,comm -h init_task",
    }

    def __init__(self, table: Table, vmlinux: Path, place: Path) -> None:
        self.table = table
        self.vmlinux = vmlinux
        self.place = place
        version = re.search(r"^crash ([0-9.]+)", run(["crash", "--version"]), re.MULTILINE)
        self.name = ("crash", version[1] if version else "?")

    def answers(self, image: object, *options: str) -> dict[str, str]:
        """What crash prints for each of the commands. It takes long to begin, and does so once."""
        for path in self.place.glob("answer-*"):
            path.unlink()
        lines = [
            f"{command} > {self.place}/answer-{index}"
            for index, command in enumerate(self.COMMANDS.values())
        ]
        text = "\n".join([*lines, "quit\n"])
        words = ["crash", "-s", *options, self.vmlinux, image]
        run(words, 600, os.environ | {"TERM": "dumb"}, text, merge=True)
        found = {}
        for index, asked in enumerate(self.COMMANDS):
            path = self.place / f"answer-{index}"
            require(path.exists() and path.stat().st_size > 0, f"{asked} prints nothing")
            found[asked] = path.read_text(encoding="utf-8", errors="replace")
        return found

    def ask(
        self, image: object, source: str, facts: Facts, *options: str,
        reference: dict[str, str] | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """Asks for processes, log and stacks; compares with `reference`, those of QEMU's dump."""
        found: dict[str, str] = {}

        def answer() -> str:
            found.update(self.answers(image, *options))
            tasks = self.judge(found, facts)
            if reference is None:
                return tasks
            for asked, text in found.items():
                require(text == reference[asked], f"{asked}: another text than of QEMU's own dump")
            return f"{tasks}; all as of QEMU's own dump"

        self.table.ask(self.name, source, ", ".join(self.COMMANDS), answer)
        return found

    @staticmethod
    def judge(found: dict[str, str], facts: Facts) -> str:
        """Whether the answers show the guest; returns what the table says."""
        ps, log, stacks, tasks = found.values()
        require(f"interop-log {facts.nonce}" in log, "the log is not the guest's")
        # An active task has a mark; which one is active depends on the moment.
        active = {int(cpu) for cpu in re.findall(r"^>\s+\d+\s+\d+\s+(\d+)", ps, re.MULTILINE)}
        traced = {int(cpu) for cpu in re.findall(r"^PID: .*CPU: (\d+)", stacks, re.MULTILINE)}
        require(active == {0, 1}, f"ps shows active tasks of processors {sorted(active)}")
        require(traced == {0, 1}, f"bt shows processors {sorted(traced)}")
        pairs = re.findall(r'pid = (\d+),\s+comm = "([^"\\]*)', tasks)
        # The list begins with the idle task.
        return facts.check_processes({(int(pid), name) for pid, name in pairs if pid != "0"})
