"""Runs the binary: with a time limit, bounded output, and what it used."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

from shim import Fault, Report, preloading

# A command that waits for ever is found by any limit; a busy machine, or a disk that stalls, must not meet it. It is
# longer than the minute that commands wait for one another.
SECONDS_MAX = 90
_OUTPUT_MAX = 128 << 20


@dataclass
class Result:
    """How a run ended. `code` is negative for a signal, as subprocess has it."""

    code: int
    out: bytes
    err: bytes
    timed_out: bool = False
    peak_kib: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    fired: int = 0

    @property
    def line(self) -> str:
        """The end of it, for messages."""
        if self.timed_out:
            return f"still running after {SECONDS_MAX} s"
        text = self.err.decode("utf-8", "replace").strip()
        return f"exit {self.code}: {text[:300]}" if self.code >= 0 else f"signal {-self.code}"


class Running:
    """A process that was started, for `finish` to wait for."""

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        stdin: bytes | int | None = None,
    ):
        self._early: list[bytes] = []
        given = isinstance(stdin, int)
        self._input = None if stdin is None or given else memoryview(stdin)
        self.process = subprocess.Popen(
            arguments,
            cwd=cwd,
            env=dict(environment),
            stdin=stdin if given else subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def kill(self) -> None:
        """SIGKILL, to this process alone."""
        self._send(signal.SIGKILL)

    def go_on(self) -> None:
        """Ends a stop."""
        self._send(signal.SIGCONT)

    def _send(self, number: int) -> None:
        # Popen's own way would wait for a process that has ended.
        try:
            os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass

    def wait_for_output(self, seconds: float = SECONDS_MAX) -> None:
        """Reads the first of its standard output, so that it is known to be at work."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if selector.select(seconds):
                self._early.append(os.read(self.process.stdout.fileno(), 1))

    def has_ended(self, seconds: float) -> bool:
        """Whether it ends within `seconds`, or has been waited for."""
        if self.process.returncode is not None:
            return True
        ticket = os.pidfd_open(self.process.pid)
        with selectors.DefaultSelector() as selector:
            selector.register(ticket, selectors.EVENT_READ)
            ended = bool(selector.select(seconds))
        os.close(ticket)
        return ended

    def wait_for_stop(self, seconds: float = SECONDS_MAX) -> bool:
        """Waits until it is stopped, or has ended; whether it is stopped."""
        deadline = time.monotonic() + seconds
        options = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
        while time.monotonic() < deadline:
            try:
                state = os.waitid(os.P_PID, self.process.pid, options)
            except ChildProcessError:
                # Another thread has waited for its end.
                return False
            if state:
                return state.si_code == os.CLD_STOPPED
            time.sleep(0.002)
        return False

    def finish(self, seconds: float = SECONDS_MAX) -> Result:
        """Reads all it writes, feeds its input, and waits; kills it after `seconds`."""
        process = self.process
        deadline = time.monotonic() + seconds
        pieces: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
        out, err = pieces
        timed_out = False
        total = 0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            if self._input is not None:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                events = selector.select(max(0, deadline - time.monotonic()))
                if not events and not timed_out:
                    timed_out = True
                    self.kill()
                    deadline = time.monotonic() + 30
                elif not events:
                    break
                for key, _ in events:
                    if key.fileobj is process.stdin:
                        self._feed(selector)
                        continue
                    piece = os.read(key.fd, 1 << 16)
                    if piece and total < _OUTPUT_MAX:
                        pieces[key.fd].append(piece)
                        total += len(piece)
                    elif not piece:
                        selector.unregister(key.fileobj)
        usage = self._reap(deadline)
        timed_out = timed_out or usage is None
        process.stdout.close()
        process.stderr.close()
        if process.stdin and not process.stdin.closed:
            process.stdin.close()
        return Result(
            process.returncode,
            b"".join(self._early + pieces[out]),
            b"".join(pieces[err]),
            timed_out,
            usage or 0,
        )

    def finish_at_once(self) -> Result:
        """Of a process that has ended: reads what it wrote, without waiting for others that still have its pipes."""
        texts = []
        for pipe in (self.process.stdout, self.process.stderr):
            os.set_blocking(pipe.fileno(), False)
            pieces: list[bytes] = []
            try:
                while piece := os.read(pipe.fileno(), 1 << 16):
                    pieces.append(piece)
            except BlockingIOError:
                pass
            texts.append(b"".join(pieces)[:_OUTPUT_MAX])
        usage = self._reap(time.monotonic() + SECONDS_MAX)
        return Result(self.process.returncode, b"".join(self._early) + texts[0], texts[1], usage is None, usage or 0)

    def _feed(self, selector: selectors.BaseSelector) -> None:
        stdin = self.process.stdin
        try:
            count = os.write(stdin.fileno(), self._input[: 1 << 16])
            self._input = self._input[count:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input = self._input[:0]
        if not self._input:
            selector.unregister(stdin)
            stdin.close()

    def _reap(self, deadline: float) -> int | None:
        """Waits, and returns the peak of memory in KiB; nothing if it had to be killed."""
        peak: int | None = 0
        if not self.has_ended(max(0.0, deadline - time.monotonic())):
            self.kill()
            peak = None
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss if peak is not None else None


@dataclass
class Tool:
    """The binary under test, the shim, and the folder of one worker."""

    binary: str
    library: Path
    scratch: Path
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME", "VMCKPT_RULE_OFF") if key in os.environ}
        self._environment = kept
        self._report = Report(self.scratch / "report")

    def start(
        self, arguments: Sequence[str], cwd: Path, stdin: bytes | int | None = None, **more: str
    ) -> Running:
        """Starts the binary on the store `s.db` in `cwd`; `more` are variables.

        Its standard input has the bytes of `stdin`, or is the descriptor `stdin`.
        """
        environment = self._environment | {"VMCKPT_STORE": "s.db"} | more
        if self.extra:
            environment |= preloading(self.library, cwd) | self.extra
        return Running([self.binary, *arguments], cwd, environment, stdin)

    def run(
        self, arguments: Sequence[str], cwd: Path, stdin: bytes | None = None, **more: str
    ) -> Result:
        """Runs it without a fault."""
        return self.start(arguments, cwd, stdin, **more).finish()

    def run_counted(
        self,
        arguments: Sequence[str],
        cwd: Path,
        stdin: bytes | None = None,
        fault: Fault | None = None,
    ) -> Result:
        """Runs it with the shim, and with a fault if there is one."""
        self._report.reset()
        more = preloading(self.library, cwd, self._report.path)
        if fault:
            more |= fault.environment()
        result = self.start(arguments, cwd, stdin, **more).finish()
        result.counts, result.fired = self._report.read()
        return result
