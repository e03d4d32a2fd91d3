"""Measures guests that start from snapshots which are in an object store only, some milliseconds away."""

import json
import os
import shutil
import statistics
import subprocess
import time

from common import Row, Tool, milliseconds, say
from guests import Monitor, Process, Recipe

# Steps of the guest's work until its start counts as over.
STEPS = 40
RECORDED_SECONDS = 5
# Milliseconds that a delaying proxy adds; with 0 there is none.
LATENCIES = (0, 2, 15)
# The one with a goal for RESUME.
GOAL_LATENCY = 2


class Network:
    """A way to the server that takes a while."""

    def __init__(self, delay, server, latency):
        self.process, self.endpoint = None, server.endpoint
        if latency == 0:
            return
        command = [delay, server.endpoint.removeprefix("http://"), str(latency)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def start(tool, recipe, *options):
    """Runs the guest by `vmckpt resume`: seconds until it ran, and until it had done its work, and what its server
    said."""
    place = recipe.place("resumed")
    shutil.rmtree(place, ignore_errors=True)
    begin = time.time()
    command = tool.command("resume", recipe.name, "--lazy", "postcopy", "--trust-command", "--json", *options)
    guest = Process(command, place, {"VMCKPT_WORKING_DIRECTORY": place})
    monitor = Monitor(f"{place}/qmp")
    ready = time.time() - begin
    ran = monitor.event("RESUME") - begin
    work = guest.wait_for_steps(STEPS)[STEPS - 1][0] - begin
    if any(nonce != recipe.nonce for _, _, nonce in guest.steps()):
        raise SystemExit("remote: the guest is not the one that was saved")
    # Its report comes when the server has sent all.
    while tool.json("lease", "list")["leases"]:
        time.sleep(0.05)
    guest.process.terminate()
    guest.process.wait()
    guest.thread.join()
    errors = guest.errors()
    served = json.JSONDecoder().raw_decode(errors[errors.index("{\n") :])[0]["served"]
    guest.kill()
    return {"ready": ready, "ran": ran, "work": work, "served": served}


def measure(vmckpt, kernel, counting_guest, delay, work, server, runs, size, rows):
    """A guest that works: it is saved and pushed on one host, and starts on others."""
    memory, files = (1024, 112) if size == "full" else (256, 24)
    initramfs = os.path.join(work, "worker.initramfs")
    worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lazy", "worker")
    subprocess.run([counting_guest, initramfs, worker], check=True)
    address = f"s3://{server.bucket}/bench/{os.getpid()}-{time.time_ns()}/guests"

    one = Tool(vmckpt, os.path.join(work, "one.db"), work)
    one.run("remote", "init", address, "--endpoint", server.endpoint)
    recipe = Recipe(one, f"worker-{memory}-mib", memory, kernel, initramfs, f"files={files}")
    say(f"a working guest with {memory} MiB boots")
    recipe.save(3)
    say("its working set is recorded, and it is pushed")
    first = start(one, recipe, "--record-working-set", str(RECORDED_SECONDS))
    if first["work"] > RECORDED_SECONDS:
        say(f"the machine is busy: the working set lacks pages of the work, which took {first['work']:.1f} s")
    one.run("push", recipe.name)
    local = [start(one, recipe) for _ in range(runs)]

    def host(name, endpoint):
        path = os.path.join(work, f"{name}.db")
        if os.path.exists(path):
            os.remove(path)
        tool = Tool(vmckpt, path, work)
        tool.run("remote", "add", address, "--endpoint", endpoint)
        return tool

    for latency in LATENCIES:
        network = Network(delay, server, latency)
        lazy, pulled = [], []

        def start_lazily():
            two = host("two", network.endpoint)
            two.run("remote", "fetch", recipe.name)
            lazy.append(start(two, recipe))

        def pull_and_start():
            three = host("three", network.endpoint)
            three.run("remote", "fetch", recipe.name)
            begin = time.monotonic()
            three.run("pull", recipe.name)
            seconds = time.monotonic() - begin
            result = start(three, recipe)
            pulled.append({"pull": seconds, "ran": seconds + result["ran"], "work": seconds + result["work"]})

        for number in range(runs):
            say(f"{latency} ms away, run {number + 1} of {runs}")
            # In turn, so that neither always has the colder machine.
            ways = [start_lazily, pull_and_start]
            for way in ways if number % 2 == 0 else reversed(ways):
                way()
        network.end()

        def median(results, key):
            return statistics.median(result[key] for result in results)

        where = f"resume from {latency} ms away" if latency else "resume from a remote on this machine"
        since_ready = statistics.median(result["ran"] - result["ready"] for result in lazy)
        ran = statistics.median(first["ran"] / second["ran"] for first, second in zip(lazy, pulled))
        rows.append(
            Row(
                f"{where}: QEMU answers to RESUME",
                milliseconds(since_ready),
                "≤ 150 ms" if latency == GOAL_LATENCY else "",
                f"from `vmckpt resume` on {milliseconds(median(lazy, 'ran'))}, {ran:.2f} × pull and then resume; from "
                f"a local store {milliseconds(median(local, 'ran'))}",
            )
        )
        asked = statistics.median(result["served"]["request_pages"] for result in lazy)
        ratio = statistics.median(first["work"] / second["work"] for first, second in zip(lazy, pulled))
        rows.append(
            Row(
                f"{where}: {STEPS} steps of the guest's work",
                f"{median(lazy, 'work'):.2f} s, {ratio:.2f} × pull and then resume",
                "≤ 0.6 ×",
                f"pull {median(pulled, 'pull'):.2f} s, and all {median(pulled, 'work'):.2f} s; from a local store "
                f"{median(local, 'work'):.2f} s; pages that the guest asked for: {asked:.0f}",
            )
        )
