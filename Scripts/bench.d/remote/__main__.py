"""Measures snapshots in an object store on loopback, beside restic with the same server. Prints a Markdown table, with
the goal beside each number; ratios are of numbers of one run, of which the median is shown.

Usage: remote VMCKPT IMAGES KERNEL COUNTING_GUEST DELAY WORK RUNS SERVER SIZE PART
IMAGES has moment-1.ram, moment-2.ram, moment-3.ram and boot2-moment-1.ram; KERNEL and COUNTING_GUEST make a guest that
works; DELAY is the program that delays connections; SERVER is what Scripts/object-store prints. SIZE is `full` or
`small`, which shows in some minutes that each row works. PART is `all`, or `restic` or `resume` for half of the rows.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lazy"))

import report  # noqa: E402
import resume  # noqa: E402
from common import PAGE, Row, Tool, mib, say  # noqa: E402
from s3 import Server  # noqa: E402

MOMENTS = ("moment-1", "moment-2", "moment-3")
OTHER = "boot2-moment-1"
WORKS = (
    ("first push", "moment-1", 0.35),
    ("next push", "moment-2", 0.2),
    ("next push but one", "moment-3", 0.2),
    ("push of another boot, from another host", OTHER, 0.35),
)


def distinct_pages(path):
    """The pages of an image, zeros left out."""
    zero, found = bytes(PAGE), set()
    with open(path, "rb") as file:
        while page := file.read(PAGE):
            if page != zero:
                found.add(page)
    return found


def pages_in_common(images):
    """How many pages of the other boot the moments have: what a push can find."""
    others = {hash(page) for page in distinct_pages(f"{images}/{OTHER}.ram")}
    known = set()
    for moment in MOMENTS:
        known |= {hash(page) for page in distinct_pages(f"{images}/{moment}.ram")} & others
    return len(known)


class Measurement:
    """One run: a remote and a repository of their own, and hosts with empty stores."""

    def __init__(self, vmckpt, images, work, server, number):
        self.images, self.server = images, server
        self.work = os.path.join(work, f"run-{number}")
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        self.vmckpt = vmckpt
        stamp = f"{os.getpid()}-{time.time_ns()}"
        self.prefix, self.repository = f"bench/{stamp}/vmckpt", f"bench/{stamp}/restic"
        self.seconds, self.peaks, self.pushes = {}, {}, {}
        self.restic("one", "init")

    def timed(self, tool, work, *command):
        """Adds the seconds of a command, with the sync after it, and notes its peak memory."""
        os.sync()
        peak = os.path.join(self.work, "peak")
        start = time.monotonic()
        done = subprocess.run(["/usr/bin/time", "-o", peak, "-f", "%M", *command], stdout=subprocess.PIPE)
        os.sync()
        seconds = time.monotonic() - start
        if done.returncode != 0:
            sys.exit(f"remote: {' '.join(command)} ended with exit code {done.returncode}")
        self.seconds[tool, work] = self.seconds.get((tool, work), 0) + seconds
        with open(peak, encoding="ascii") as file:
            byte_count = int(file.read().split()[-1]) * 1024
        verb = command[1] if tool == "vmckpt" else "restic"
        self.peaks[verb] = max(self.peaks.get(verb, 0), byte_count)
        return done.stdout

    def host(self, name, verb):
        tool = Tool(self.vmckpt, os.path.join(self.work, f"{name}.db"), self.work)
        address = f"s3://{self.server.bucket}/{self.prefix}"
        tool.run("remote", verb, address, "--endpoint", self.server.endpoint)
        return tool

    def restic_command(self, host, *arguments):
        repository = f"s3:{self.server.endpoint}/{self.server.bucket}/{self.repository}"
        return ["restic", "-q", "-r", repository, "--cache-dir", f"{self.work}/cache-{host}", *arguments]

    def restic(self, host, *arguments):
        subprocess.run(self.restic_command(host, *arguments), check=True, stdout=subprocess.DEVNULL)

    def run(self):
        hosts = {"one": self.host("one", "init"), "two": self.host("two", "add")}
        for work, image, _ in WORKS:
            name = "two" if image == OTHER else "one"
            path = f"{self.images}/{image}.ram"
            with open(path, "rb") as file:  # all read a warm cache
                while file.read(1 << 20):
                    pass
            command = hosts[name].command
            self.timed("vmckpt", work, *command("save", path, "--name", image, "--vm", name))
            pushed = self.timed("vmckpt", work, *command("push", image, "--json"))
            self.pushes[work] = json.loads(pushed)["snapshots"][0]
            self.timed("restic", work, *self.restic_command(name, "backup", "--host", name, path))
        self.stored = {
            "vmckpt": self.server.stored_bytes(self.prefix + "/"),
            "restic": self.server.stored_bytes(self.repository + "/"),
        }
        third = self.host("three", "add")
        self.timed("vmckpt", "pull", *third.command("pull", OTHER))
        path = os.path.join(self.work, "restored")
        os.mkdir(path)
        self.timed("vmckpt", "restore", *third.command("restore", OTHER, "-o", f"{path}/vmckpt.ram"))
        self.timed("restic", "pull", *self.restic_command("three", "restore", "latest", "--target", path))
        wanted = f"{self.images}/{OTHER}.ram"
        for found in (f"{path}/vmckpt.ram", f"{path}{wanted}"):
            if subprocess.run(["cmp", "-s", found, wanted], check=False).returncode != 0:
                sys.exit(f"remote: {found} is not the image")
        shutil.rmtree(self.work)
        return self

    def ratio(self, work):
        return self.seconds["vmckpt", work] / self.seconds["restic", work]


def compare(runs, common, rows):
    """The rows of what both tools do."""

    def median(value):
        return statistics.median(value(run) for run in runs)

    def seconds(tool, work):
        return median(lambda run: run.seconds[tool, work])

    for work, _, goal in WORKS:
        rows.append(
            Row(
                f"{work}, with its save",
                f"{seconds('vmckpt', work):.2f} s, {median(lambda run: run.ratio(work)):.2f} × restic",
                f"≤ {goal} ×",
                f"restic's backup {seconds('restic', work):.2f} s",
            )
        )
    stored = median(lambda run: run.stored["vmckpt"] / run.stored["restic"])
    rows.append(
        Row(
            "bytes stored after all four",
            f"{median(lambda run: run.stored['vmckpt']) / 1e6:.0f} MB, {stored:.2f} × restic",
            "≤ 0.95 ×",
            f"restic {median(lambda run: run.stored['restic']) / 1e6:.0f} MB",
        )
    )
    other = WORKS[-1][0]
    found = median(lambda run: run.pushes[other]["reused_pages"])
    rows.append(
        Row(
            "pages that another host pushed, found",
            f"{found / max(common, 1) * 100:.2f} %",
            "≥ 99 %",
            f"{found:.0f} of {common}",
        )
    )
    beyond = max(push["put_requests"] - push["packs"] for run in runs for push in run.pushes.values())
    packs = [push["packs"] for push in runs[-1].pushes.values()]
    rows.append(
        Row("PUT-class requests of a push, beyond its packs (worst)", str(beyond), "≤ 6", f"packs: {packs}")
    )
    pull = median(lambda run: run.ratio("pull"))
    both = median(
        lambda run: (run.seconds["vmckpt", "pull"] + run.seconds["vmckpt", "restore"]) / run.seconds["restic", "pull"]
    )
    rows.append(
        Row(
            "pull",
            f"{seconds('vmckpt', 'pull'):.2f} s, {pull:.2f} × restic",
            "≤ 0.5 ×",
            f"restic's restore {seconds('restic', 'pull'):.2f} s; pull and then restore {both:.2f} ×",
        )
    )
    for verb in ("push", "pull"):
        peak = max(run.peaks[verb] for run in runs)
        beside = f"restic {mib(max(run.peaks['restic'] for run in runs))}"
        rows.append(Row(f"memory of {verb} (worst)", mib(peak), "≤ 192 MiB", beside))


def main():
    vmckpt, images, kernel, counting_guest, delay, work, runs, server, size, part = sys.argv[1:11]
    runs, server = int(runs), Server.parse(server)
    # Whoever runs this has a key of their own, and remotes that they have confirmed, which are left alone.
    os.environ["XDG_STATE_HOME"] = os.path.join(work, "state")
    key, secret = server.keys()
    os.environ |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "RESTIC_PASSWORD": "bench"}
    rows: list[Row] = []
    beside = ""
    if part != "resume":
        say("what the images have in common")
        common = pages_in_common(images)
        done = []
        for number in range(runs):
            say(f"run {number + 1} of {runs}, beside restic")
            done.append(Measurement(vmckpt, images, work, server, number).run())
        compare(done, common, rows)
        version = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.split()[1]
        beside = f"; restic {version}"
    if part != "restic":
        resume.measure(vmckpt, kernel, counting_guest, delay, work, server, runs, size, rows)
    print(
        f"{os.cpu_count()} cores; {server.name} on loopback, which has the same cores{beside}; medians of {runs} runs.\n"
    )
    print(report.table(rows))


main()
