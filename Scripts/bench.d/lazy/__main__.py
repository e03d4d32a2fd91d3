"""Measures how fast a VM gets its pages from a store while it runs, beside restoring them first. Prints a
Markdown table, with the goal beside each number; every number is of one run of this program, and ratios are of
numbers beside each other.

Usage: lazy VMCKPT IMAGE KERNEL COUNTING_GUEST WORK RUNS SIZE [PLOT]
IMAGE is a RAM file, KERNEL a kernel for guests, COUNTING_GUEST the script that makes their initramfs; WORK is for
scratch. SIZE is `full` (guests with 1 GiB and 8 GiB) or `small`, which shows in some minutes that each row works.
Needs root, /dev/fuse, and QEMU; VMCKPT_BENCH_QEMU names another.

Guests run without KVM. Times that a program in a guest reports are those of its serial line.
"""

import os
import subprocess
import sys

import mounts
import postcopy
import report
import userfaults
from common import PAGE, MIB, Row, Tool, say
from guests import QEMU, Recipe

SMALL_MIB = 128
LARGE_MIB = 8192


def measure_memory(tool, image, runs, rows):
    """What needs no guest: pages touched by this program."""
    pages, count = userfaults.stored_pages(image)
    label = f"{count * PAGE // MIB} MiB"
    tool.run("save", image, "--name", "guest")
    say("userfaultfd")
    userfaults.measure_guest(tool, label, pages, count * PAGE, runs, rows)
    userfaults.measure_kills(tool, image, pages, count * PAGE, rows)
    userfaults.measure_working_set(tool, label, pages, count * PAGE, runs, rows)
    say("mount")
    mounts.measure_faults(tool, "guest", label, runs, rows)
    mounts.measure_kills(tool, "guest", image, rows)
    return pages


def measure_sparse(tool, image, pages, runs, rows):
    """The same RAM with holes behind it, in a store of its own."""
    large = os.path.join(tool.work, "large.ram")
    subprocess.run(["cp", "--sparse=always", image, large], check=True)
    os.truncate(large, LARGE_MIB * MIB)
    sparse = Tool(tool.vmckpt, os.path.join(tool.work, "large.db"), tool.work)
    sparse.run("save", large, "--name", "guest")
    os.remove(large)
    say("userfaultfd, 8 GiB sparse")
    userfaults.measure_guest(sparse, "8 GiB sparse", pages, LARGE_MIB * MIB, runs, rows)


def main():
    vmckpt, image, kernel, counting_guest, work, runs, size = sys.argv[1:8]
    runs, plot = int(runs), sys.argv[8] if len(sys.argv) > 8 else None
    # Whoever runs this has a key of their own, which is left alone.
    os.environ["XDG_STATE_HOME"] = os.path.join(work, "state")
    tool = Tool(vmckpt, os.path.join(work, "s.db"), work)
    rows: list[Row] = []

    def initramfs(name, *init):
        path = os.path.join(work, f"{name}.initramfs")
        subprocess.run([counting_guest, path, *init], check=True)
        return path

    pages = measure_memory(tool, image, runs, rows)
    if size == "full":
        measure_sparse(tool, image, pages, runs, rows)

    # Guests that count, whose RAM is almost empty.
    counting = initramfs("counting")
    medians = {}
    for memory in [SMALL_MIB] + ([LARGE_MIB] if size == "full" else []):
        recipe = Recipe(tool, f"{memory}-mib", memory, kernel, counting, "interval=0.2")
        say(f"a counting guest with {memory} MiB")
        recipe.save(3)
        medians[memory] = postcopy.measure_resume(recipe, runs, rows)
        if memory == SMALL_MIB:
            mounts.measure_clones(recipe, 3, rows)
    if LARGE_MIB in medians:
        ratio = medians[LARGE_MIB] / medians[SMALL_MIB]
        rows.append(Row("`migrate-incoming` to RESUME: 8 GiB sparse against 128 MiB", f"{ratio:.2f} ×", "≤ 1.3 ×"))

    # A guest that has much in its RAM, and works.
    memory, files = (1024, 112) if size == "full" else (256, 24)
    worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker")
    recipe = Recipe(tool, f"worker-{memory}-mib", memory, kernel, initramfs("worker", worker), f"files={files}")
    say(f"a working guest with {memory} MiB boots")
    recipe.save(3)
    say("its starts")
    postcopy.measure_resume(recipe, runs, rows)
    postcopy.measure_work(recipe, runs, rows, mounts.start_work)
    postcopy.measure_latency(recipe, rows)
    say("kills of its servers")
    postcopy.measure_kills(recipe, rows)

    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    print(f"{os.cpu_count()} cores; guests in {version}, without KVM; medians of {runs} runs.\n")
    print(report.table(rows))
    if plot:
        with open(plot, "w", encoding="utf-8") as file:
            file.write(report.svg(rows))


main()
