"""Scenarios of the part `kills`: a slow operation, and others that must wait for it or leave it be."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING, Callable

import guests
from oracle import StoreCheck
from shim import Fault, preloading
from tool import Result, Running

if TYPE_CHECKING:
    from kills import Round

# Larger than what a restore reads ahead, so that one to a pipe that nobody reads stays in its middle.
_RESTORED_PAGES = 12_000
_SAVED_PAGES = 700


def _big(guest: str, pages: int) -> bytes:
    return random.Random(f"big {guest}").randbytes(pages * guests.PAGE)


def _save_big(this: Round, guest: str, pages: int = _SAVED_PAGES) -> Running:
    name = f"{guest}/big"
    this.golden[name] = _big(guest, pages)
    (this.folder / f"{guest}.big").write_bytes(this.golden[name])
    return this.worker.tool.start(
        ["save", f"{guest}.big", "--name", name, "--vm", guest], this.folder
    )


def _expect(this: Round, running: Running, what: str, codes: tuple[int, ...] = (0,)) -> Result:
    result = running.finish()
    if result.code not in codes:
        this.failures.append(f"{what}: {result.line}")
    return result


def _finish(this: Round) -> list[str]:
    check = StoreCheck(this.worker.tool, this.folder, this.golden)
    return this.failures + check.run(this.present)


def slow_stream(this: Round, index: int) -> list[str]:
    """A restore whose reader is slow gives right pages to its end, or says that they are gone."""
    _expect(this, _save_big(this, "x", _RESTORED_PAGES), "save")
    reader = this.worker.tool.start(["restore", "x/big", "-o", "-"], this.folder)
    reader.wait_for_output()
    return _end_restore(this, index, reader, reader.finish, lambda result: result.out)


def slow_restore(this: Round, index: int) -> list[str]:
    """A restore that stops for a while finds all of its pages, whatever is deleted meanwhile."""
    _expect(this, _save_big(this, "x", _RESTORED_PAGES), "save")
    # Stopped where it writes RAM: with some of its chunks read, and others not.
    stop = Fault("pwrite", "stop", "once", this.source.randrange(2, 12))
    more = preloading(this.worker.tool.library, this.folder) | stop.environment()
    reader = this.worker.tool.start(["restore", "x/big", "-o", "out.ram"], this.folder, **more)
    if not reader.wait_for_stop():
        this.failures.append("harness: the restore did not stop")

    def go_on() -> Result:
        os.kill(reader.process.pid, signal.SIGCONT)
        return reader.finish()

    out = this.folder / "out.ram"
    failures = _end_restore(this, index, reader, go_on, lambda _: out.read_bytes())
    left = [path.name for path in this.folder.glob(".out.ram.*")]
    return failures + [f"left: {name}" for name in left]


def _end_restore(
    this: Round,
    index: int,
    reader: Running,
    go_on: Callable[[], Result],
    data: Callable[[Result], bytes],
) -> list[str]:
    """Deletes and collects what `reader` reads, and saves into its place, before it goes on."""
    tool = this.worker.tool
    others = [tool.start(["delete", "x/big"], this.folder)]
    # A reader that stopped in a transaction makes the deletion wait for it.
    if others[0].has_ended(2):
        others.append(tool.start(["optimize" if index % 2 else "gc"], this.folder))
        # Behind the collection where locks are.
        others[1].has_ended(0.5)
        others.append(_save_big(this, "y", _RESTORED_PAGES))
        others[2].has_ended(1)
        this.present.add("y/big")
    result = go_on()
    check = StoreCheck(tool, this.folder, this.golden)
    if result.code not in (0, 66):
        this.failures.append(f"a restore beside a deletion and a collection: {result.line}")
    elif result.code == 0 and data(result) != this.golden["x/big"]:
        this.failures.append(f"wrong bytes: {check.whose('x/big', data(result))}, with exit 0")
    for other in others:
        _expect(this, other, "a deletion, collection or save beside a restore")
    return _finish(this)


class _SlowSave:
    """A save whose input stops in the middle until it is told how to end."""

    def __init__(self, this: Round):
        self.this = this
        self.data = this.golden["x/big"] = _big("x", _SAVED_PAGES)
        read_end, self.write_end = os.pipe()
        self.running = _start_reading(this, read_end)
        self._write(self.data[: len(self.data) // 2])
        time.sleep(0.3)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.write_end, view) :]
            except BrokenPipeError:
                return

    def end(self, how: str) -> Result:
        """Ends it: by the rest of its input, a signal, a kill, or input that is cut off."""
        process = self.running.process
        if how == "whole":
            self._write(self.data[len(self.data) // 2 :])
        elif how == "cut":
            # No whole page: an error.
            self._write(b"cut")
        else:
            os.kill(process.pid, getattr(signal, how))
        os.close(self.write_end)
        return self.running.finish()


def _start_reading(this: Round, read_end: int) -> Running:
    """Starts `save -` with the pipe as its standard input."""
    running = this.worker.tool.start(
        ["save", "-", "--name", "x/big", "--vm", "x"], this.folder, read_end
    )
    os.close(read_end)
    return running


_ENDS = ("whole", "cut", "SIGTERM", "SIGKILL")


def slow_save(this: Round, index: int) -> list[str]:
    """A second save and a collection wait for a slow save, and harm neither it nor each other."""
    slow = _SlowSave(this)
    second = _save_big(this, "y")
    collector = this.worker.tool.start(["gc"], this.folder)
    time.sleep(0.5)
    return _end_slow(this, slow, second, collector, _ENDS[index % len(_ENDS)])


def lock_removed(this: Round, index: int) -> list[str]:
    """The lock file is removed under a slow save: what comes in harms nothing that is complete."""
    slow = _SlowSave(this)
    (this.folder / "s.db-lock").unlink(missing_ok=True)
    second = _save_big(this, "y")
    time.sleep(0.8)
    return _end_slow(this, slow, second, None, ("cut", "SIGTERM", "SIGKILL", "whole")[index % 4])


def _end_slow(
    this: Round, slow: _SlowSave, second: Running, collector: Running | None, how: str
) -> list[str]:
    result = slow.end(how)
    robbed = collector is None
    if result.code == 0:
        this.present.add("x/big")
    if how == "whole" and result.code != 0 and not robbed:
        this.failures.append(f"a slow save: {result.line}")
    if how == "cut" and result.code not in ((65, 74, 75) if robbed else (65,)):
        this.failures.append(f"a slow save whose input was cut off: {result.line}")
    if _expect(this, second, "a save beside a slow save", (0, 74, 75) if robbed else (0,)).code == 0:
        this.present.add("y/big")
    if collector:
        _expect(this, collector, "a collection beside a slow save")
    return _finish(this)


SCENARIOS = {
    "slow-restore": slow_restore,
    "slow-stream": slow_stream,
    "slow-save": slow_save,
    "lock-removed": lock_removed,
}
# Where locks that lock nothing must be seen.
LOCK_SCENARIOS = ("slow-restore", "slow-save")
