"""Reads files of a mount page by page, in any order, beside what they must have. Run by serving.py.

Its input is JSON: `files` (a path in the mount and that of the right bytes), `seed`, `pause`. Its output says which
pages are `wrong`, which reads were `errors`, and which were errors again some time later (`stuck`).
"""

import errno
import json
import os
import random
import sys
import time

PAGE = 4096
# How often, and in seconds, an error is tried again.
_AGAIN = (0.05, 0.2, 0.5)


def main() -> None:
    request = json.load(sys.stdin)
    source = random.Random(request["seed"])
    wrong, errors, stuck, right = [], [], [], {}
    opened = {}
    places = []
    for path, golden in request["files"].items():
        with open(golden, "rb") as file:
            right[path] = file.read()
        places += [(path, at) for at in range(0, len(right[path]), PAGE)]
    source.shuffle(places)

    def read(path: str, at: int) -> bytes:
        if path not in opened:
            opened[path] = os.open(path, os.O_RDONLY)
            os.posix_fadvise(opened[path], 0, 0, os.POSIX_FADV_RANDOM)
        return os.pread(opened[path], PAGE, at)

    for path, at in places:
        name = "/".join(path.split("/")[-3:])
        if request["pause"]:
            time.sleep(request["pause"])
        for attempt, pause in enumerate((0, *_AGAIN)):
            time.sleep(pause)
            try:
                data = read(path, at)
            except OSError as error:
                said = f"{name} at {at:#x}: {errno.errorcode.get(error.errno)}"
                errors.append(said)
                if attempt == len(_AGAIN):
                    stuck.append(said)
                continue
            if data != right[path][at : at + PAGE]:
                what = "zeros" if not any(data) else f"{len(data)} bytes"
                wrong.append(f"{name} at {at:#x} is {what}")
            break
        # A mount that only gives errors has shown enough.
        if len(stuck) > 3:
            break
    json.dump({"wrong": wrong, "errors": errors, "stuck": stuck}, sys.stdout)


if __name__ == "__main__":
    main()
