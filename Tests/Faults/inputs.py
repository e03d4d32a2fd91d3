"""Part `inputs`: mutated overlays.json, Propolis snapshots, QEMU streams, ELF cores, and command lines.

The parsers have fuzzers of their own (Scripts/fuzz), which see more inputs a second; here the whole
command meets them, with the store that it leaves.
"""

from __future__ import annotations

import random

import guests
import sources
from damage import PEAK_KIB_MAX
from harness import Outcome, Plan, Worker
from oracle import StoreCheck, orderly
from stores import IMAGES, OTHER_FILES
from tool import Result

_NAMES = (
    "", "-", "--", "latest", "a/1", "a/1~1", "a/1~99999999999", "~1", "../x", "a'b", "x\u0301",
    "a" * 255, "a" * 256, "a b", "\n", "\x1b[31m", "\u202e", "'; DROP TABLE snapshot; --", "%s%n",
    "*", "k=v", "=", "k=" + "v" * 5000, "-1", "0x", "18446744073709551616", "NaN", "/dev/null", ".",
)
_WORDS = (
    "save restore list show diff tag delete gc optimize verify stats map query overlays sql --json"
    " --name --vm --parent --no-parent --tag --region --compression --threads -o --force --verify"
    " --overlays --overlays-out --tsc-frequency --cpu-vendor --limit --cells --store --help"
    " --dry-run --remove --format qemu propolis gpa=0,size=4096 gpa=0xfff,size=-1 a1.ram b1.ram"
).split()


_SOURCES = {
    "propolis": sources.propolis,
    "qemu": sources.qemu_stream,
    "elf": sources.elf_core,
}


def cases(plan: Plan, worker: Worker) -> list[str]:
    """Numbers of inputs of each kind."""
    count = plan.pick(80, 1500, 10_000)
    return [
        f"{kind} {index}"
        for index in range(count)
        for kind in ("overlays", "propolis", "qemu", "elf", "arguments")
    ]


def run(case: str, worker: Worker) -> Outcome:
    """Gives the command one input, and looks at what it made of it."""
    kind, _ = case.split()
    source = random.Random(f"{worker.seed} {case}")
    worker.stores.copy("main", worker.folder)
    if kind == "arguments":
        failures = _arguments(worker, source)
    elif kind == "overlays":
        failures = _overlays(worker, source)
    else:
        failures = _image(worker, source, kind)
    if source.random() < 0.1 and kind != "arguments":
        check = StoreCheck(worker.tool, worker.folder, worker.stores.golden)
        failures += check.run({"a/1", "a/2", "b/1"}, {"m/1"}, saves_first=source.random() < 0.5)
    return Outcome(case, failures)


def mutate(data: bytes, source: random.Random, near: int = 0) -> bytes:
    """A few changes of bytes; most of them before `near`, where structures are."""
    made = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        limit = min(near, len(made)) if near and source.random() < 0.8 else len(made)
        at = source.randrange(max(1, limit))
        way = source.randrange(7)
        if way == 0 and made:
            made[at % len(made)] ^= 1 << source.randrange(8)
        elif way == 1 and made:
            made[at % len(made)] = source.choice((0, 0x7F, 0x80, 0xFF, 0x22, 0x7B, 0x2C, 0x30))
        elif way == 2:
            del made[at : at + source.choice((1, 2, 8, 512, 4096))]
        elif way == 3:
            made[at:at] = source.randbytes(source.choice((1, 4, 512)))
        elif way == 4:
            size = source.choice((1, 4, 8))
            made[at : at + size] = source.choice((b"\0", b"\xff")) * size
        elif way == 5:
            piece = made[at : at + source.choice((8, 64, 512, 600))]
            made[at:at] = piece
        else:
            del made[at:]
    return bytes(made)


def _judge(worker: Worker, arguments: tuple[str, ...], codes: set[int]) -> tuple[Result, list[str]]:
    result = worker.tool.run(arguments, worker.folder)
    failures = orderly(result, codes)
    if result.peak_kib > PEAK_KIB_MAX:
        failures.append(f"memory: {result.peak_kib >> 10} MiB")
    return result, [f"{' '.join(arguments[:2])[:60]!r}: {failure}" for failure in failures]


def _overlays(worker: Worker, source: random.Random) -> list[str]:
    data = mutate(OTHER_FILES["overlays.json"], source)
    if source.random() < 0.3:
        # Values rather than bytes, so that more of them are read to the end.
        text = OTHER_FILES["overlays.json"].decode()
        old = source.choice(("4", "5", "0x8100060100000000", "2400000000", "54", "0", "1", "vp"))
        new = source.choice(("-1", "0", "18446744073709551615", "1e3", '"0x10"', "null", "[]", "55"))
        data = text.replace(old, new, 1).encode()
    (worker.folder / "mutated").write_bytes(data)
    arguments = ("save", "b1.ram", "--vm", "b", "--name", "m/1", "--overlays", "mutated")
    result, failures = _judge(worker, arguments, {0, 65})
    if result.code == 0:
        restored, more = _judge(worker, ("restore", "m/1", "-o", "-", "--overlays", "omit"), {0})
        failures += more
        if restored.code == 0 and len(restored.out) != len(IMAGES["b1.ram"]):
            failures.append("wrong bytes: m/1 has another size, with exit 0")
        for spot in range(0, len(restored.out), guests.PAGE):
            page = restored.out[spot : spot + guests.PAGE]
            if page != IMAGES["b1.ram"][spot : spot + guests.PAGE] and b"underlay" not in data:
                failures.append(f"wrong bytes: m/1 at {spot:#x}, with exit 0")
                break
    return failures


def _image(worker: Worker, source: random.Random, kind: str) -> list[str]:
    if kind not in worker.cache:
        worker.cache[kind] = _SOURCES[kind]("p")
    valid, ram = worker.cache[kind]
    data = valid if source.random() < 0.02 else mutate(valid, source, near=6000)
    (worker.folder / "mutated").write_bytes(data)
    scheme = "qemu-stream" if kind == "qemu" else kind
    arguments = ("save", f"{scheme}:mutated", "--vm", "p", "--name", "m/1")
    result, failures = _judge(worker, arguments, {0, 64, 65, 66})
    if data == valid and result.code != 0:
        failures.append(f"a valid {kind} input is refused: {result.line}")
    if result.code == 0:
        bare = ("restore", "m/1", "-o", "-", "--overlays", "omit")
        restored, more = _judge(worker, bare, {0})
        failures += more
        if data == valid and restored.out != ram:
            failures.append(f"wrong bytes: of a valid {kind} input, with exit 0")
        again, more = _judge(worker, ("restore", "m/1", "-o", "-", "--format", scheme), {0, 65})
        failures += more
        if kind == "propolis" and data == valid and again.out != data:
            failures.append("wrong bytes: the archive is another one, with exit 0")
    return failures


def _arguments(worker: Worker, source: random.Random) -> list[str]:
    line = []
    for _ in range(source.randrange(1, 7)):
        line.append(source.choice(_WORDS if source.random() < 0.6 else _NAMES))
    # Commands that read the terminal or run other programs are not what is tested.
    line = [word for word in line if word != "sql"] or ["list"]
    if "-o" in line and line[-1] == "-o":
        line.append("-")
    result, failures = _judge(worker, tuple(line), {0, 64, 65, 66, 69, 71, 73, 74, 75, 77})
    shown = " ".join(line)
    if any(byte < 32 and byte not in (10, 9) for byte in result.err):
        failures.append("words: control characters in an error")
    return [f"{shown[:120]!r}: {failure}" for failure in failures]
