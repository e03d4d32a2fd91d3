"""A heap for a large guest: an index of the words in the standard library's sources.

Reads a target in MiB from a line, grows until there, answers with the size.
"""

import glob
import itertools
import re
import sys

marker = "-".join(["VMCKPT", "GUEST", "MARKER", "5b1f0c7e"])
index = {}


def resident_mib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) / 256


def words():
    """Adds the words of one source file after another, in endless passes."""
    paths = sorted(glob.glob("/usr/lib/python3*/**/*.py", recursive=True))
    for number in itertools.count():
        for path in paths:
            with open(path, errors="replace") as source:
                for line_number, line in enumerate(source):
                    for match in re.finditer(r"\w+", line):
                        place = (path, line_number, match.start() + number)
                        index.setdefault(match.group(), []).append(place)
                    if line_number % 64 == 0:
                        yield


growth = words()
for line in sys.stdin:
    while resident_mib() < int(line):
        next(growth)
    print(resident_mib(), marker, flush=True)
