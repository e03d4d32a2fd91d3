"""Small RAM images of guests whose pages differ, so that one's bytes in another's RAM are seen."""

from __future__ import annotations

import json
import random

PAGE = 4096
# Is in every text page: it must never be in an error.
SECRET = "guest-secret"


def image(guest: str, pages: int, version: int = 1) -> bytes:
    """RAM of `guest`: zero, random, text and duplicate pages. A version changes some of them."""
    made: list[bytes] = []
    for index in range(pages):
        # Two of three pages are the same in all versions.
        age = version if index % 3 == 1 else 1
        source = random.Random(f"{guest} {index} {age}")
        kind = source.choice(("zero", "random", "random", "text", "text", "copy"))
        if kind == "zero" or (kind == "copy" and not made):
            made.append(bytes(PAGE))
        elif kind == "random":
            made.append(source.randbytes(PAGE))
        elif kind == "copy":
            made.append(made[source.randrange(len(made))])
        else:
            line = f"{SECRET} of {guest} page {index} at {age} {source.random()}\n"
            made.append((line * (PAGE // len(line) + 1)).encode()[:PAGE])
    return b"".join(made)


def overlays_document(pages: int) -> bytes:
    """An overlays.json for an image of that many pages: derived, stored and baked overlays."""
    import base64

    contents = base64.b64encode(random.Random("overlay").randbytes(PAGE)).decode()
    return json.dumps(
        {
            "format": 1,
            "guest_os_id": "0x8100060100000000",
            "overlays": [
                {"kind": "hypercall", "pfn": 4, "variant": "vmcall"},
                {"kind": "reference-tsc", "pfn": 5, "tsc_frequency_hz": 2400000000},
                {"kind": "synic-message", "vp": 0, "pfn": pages - 2, "contents": contents},
                {"kind": "vp-assist", "vp": 1, "pfn": 5, "contents": contents},
            ],
        }
    ).encode()
