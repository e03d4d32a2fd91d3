"""The rows of Scripts/interop: which reader was asked what of which file, and what it answered."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

COLUMNS = ("reader", "version", "input", "asked", "result", "seconds")


class Failure(Exception):
    """A reader answered something else than the guest is, or did not answer."""


@dataclass
class Row:
    """One question to one reader."""

    reader: str
    version: str
    input: str
    asked: str
    result: str
    seconds: float
    passed: bool

    def cells(self) -> list[str]:
        """The row's texts, in the order of COLUMNS."""
        result = self.result if self.passed else f"FAILED: {self.result}"
        seconds = f"{self.seconds:.1f}"
        return [self.reader, self.version, self.input, self.asked, result, seconds]


class Table:
    """All rows. Each is printed when it is there, so that one sees where a run is."""

    def __init__(self, emit: Callable[[Row], None] | None = None) -> None:
        self.rows: list[Row] = []
        self.emit = emit or say

    def ask(
        self, reader: tuple[str, str], source: str, asked: str, answer: Callable[[], str]
    ) -> bool:
        """Runs `answer`, which returns the result or raises what is wrong with it."""
        start = time.monotonic()
        try:
            result, passed = answer(), True
        except (Failure, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            result, passed = f"{type(error).__name__}: {error}", False
            if isinstance(error, Failure):
                result = str(error)
        seconds = time.monotonic() - start
        self.add(Row(*reader, source, asked, result, seconds, passed))
        return passed

    def add(self, row: Row) -> None:
        """Takes a row that is complete."""
        self.rows.append(row)
        self.emit(row)

    def text(self, markdown: bool) -> str:
        """The table, aligned for a terminal or as Markdown."""
        rows = [list(COLUMNS)] + [row.cells() for row in self.rows]
        if markdown:
            rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
            lines = ["| " + " | ".join(row) + " |" for row in rows]
            return "\n".join([lines[0], "|" + "---|" * len(COLUMNS), *lines[1:]])
        widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
            for row in rows
        )


def say(row: Row) -> None:
    """One line about a row, while others are still to come."""
    mark = "ok    " if row.passed else "FAILED"
    print(
        f"interop: {mark} {row.reader}, {row.input}: {row.asked}: {row.result}"
        f" ({row.seconds:.1f} s)",
        flush=True,
    )


def as_dictionary(row: Row) -> dict[str, object]:
    """A row as JSON has it."""
    return asdict(row)


def run(
    arguments: Iterable[object],
    timeout: float = 300,
    environment: dict[str, str] | None = None,
    text: str | None = None,
    merge: bool = False,
) -> str:
    """Standard output of a program that has to end with 0; with `merge`, both outputs."""
    words = [str(argument) for argument in arguments]
    outcome = subprocess.run(
        words,
        input=text if text is not None else "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        env=environment,
        check=False,
    )
    if outcome.returncode != 0:
        said = (outcome.stdout if merge else outcome.stderr).strip().splitlines()
        last = said[-1] if said else "nothing"
        raise Failure(f"{words[0].rsplit('/', 1)[-1]} ended with {outcome.returncode}: {last}")
    return outcome.stdout


def require(condition: bool, message: str) -> None:
    """Ends a row unless `condition` holds."""
    if not condition:
        raise Failure(message)


def stop(message: str, code: int) -> None:
    """Ends the run: without this there is nothing to ask the readers."""
    print(f"interop: {message}", file=sys.stderr)
    sys.exit(code)
