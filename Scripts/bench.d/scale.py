"""Measures how saves and the page index grow with the store: lookups and inserts at 0.1 to 20 million
pages, and the save of one image into a store of 20 million distinct pages beside one into an empty
store. Prints Markdown tables and draws the curve.

Usage: scale.py VMCKPT VMCKPT_BENCH IMAGE WORK RUNS [SVG]
"""

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time

PAGES = 20_000_000
LINES = [
    ("absent_lookup_nanoseconds", "lookup of a page that is not there", "#0b5fff"),
    ("present_lookup_nanoseconds", "lookup of a page that is there", "#4c9f70"),
    ("insert_nanoseconds", "insert, merges included", "#c8553d"),
]


def index_points(bench, work, runs):
    text = subprocess.run(
        [bench, "index", "--json", "--directory", work, "--runs", str(runs)],
        check=True, stdout=subprocess.PIPE,
    ).stdout
    return json.loads(text)


def print_points(points):
    print("| pages | runs | lookup, not there | first of a save | lookup, there | insert |"
          " written for it | longest merge |")
    print("|---" * 8 + "|")
    for point in points:
        cells = [f"{point['pages'] / 1e6:g} million", str(point["runs"])]
        cells += [f"{point[key] / 1000:.2f} µs" for key in (
            "absent_lookup_nanoseconds", "absent_first_lookup_nanoseconds",
            "present_lookup_nanoseconds", "insert_nanoseconds")]
        cells += [f"{point['written_bytes_per_insert']:.0f} B",
                  f"{point['longest_merge_seconds']:.2f} s"]
        print("| " + " | ".join(cells) + " |")
    print(flush=True)


def fill(vmckpt, bench, store):
    pages = subprocess.Popen([bench, "pages", str(PAGES)], stdout=subprocess.PIPE)
    start = time.perf_counter()
    subprocess.run([vmckpt, "save", "-", "--name", "filler", "--vm", "filler", "--store", store],
                   stdin=pages.stdout, stdout=subprocess.DEVNULL, check=True)
    pages.stdout.close()
    if pages.wait() != 0:
        sys.exit("scale: pages could not be made")
    return time.perf_counter() - start


def save(vmckpt, image, store):
    """Wall and processor seconds of a save and the sync after it."""
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(
        [vmckpt, "save", image, "--name", "image", "--vm", "image", "--store", store],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"scale: the save of {image} failed")
    os.sync()
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def compare(vmckpt, image, full, work, runs):
    times = {"empty": [], "full": []}
    store = f"{work}/copy.db"
    for _ in range(runs):
        for kind in times:
            for suffix in ("", "-journal", "-lock"):
                if os.path.exists(store + suffix):
                    os.unlink(store + suffix)
            if kind == "full":
                shutil.copyfile(full, store)
                os.chmod(store, 0o600)
            times[kind].append(save(vmckpt, image, store))
    print("| save into | seconds | processor seconds |\n|---|---|---|")
    titles = {"empty": "an empty store", "full": f"a store of {PAGES / 1e6:g} million pages"}
    for kind, values in times.items():
        print(f"| {titles[kind]} | {statistics.median(v[0] for v in values):.2f}"
              f" | {statistics.median(v[1] for v in values):.2f} |")
    ratios = [
        statistics.median(b[column] / a[column] for a, b in zip(times["empty"], times["full"]))
        for column in (0, 1)
    ]
    print(f"| ratio, the median over the runs | {ratios[0]:.2f} | {ratios[1]:.2f} |\n")


def svg(points):
    """Microseconds over pages, both logarithmic."""
    width, height, left, right, top, bottom = 860, 380, 64, 24, 64, 44
    low_x = math.log10(points[0]["pages"])
    high_x = max(math.log10(points[-1]["pages"]), low_x + 0.1)
    values = [point[key] / 1000 for point in points for key, _, _ in LINES]
    low_y = math.floor(math.log10(max(min(values), 1e-3)))
    high_y = max(math.ceil(math.log10(max(values))), low_y + 1)

    def x(pages):
        share = (math.log10(pages) - low_x) / (high_x - low_x)
        return left + share * (width - left - right)

    def y(value):
        share = (math.log10(max(value, 10 ** low_y)) - low_y) / (high_y - low_y)
        return height - bottom - share * (height - top - bottom)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>Microseconds for a lookup and an insert by pages in the index; less is better"
        "</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for exponent in range(low_y, high_y + 1):
        value = 10 ** exponent
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" '
                   f'y2="{y(value):.1f}" stroke="#c9d1d9"/>')
        out.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end" '
                   f'fill="#57606a">{value:g} µs</text>')
    for point in points:
        out.append(f'<text x="{x(point["pages"]):.1f}" y="{height - bottom + 20}" '
                   f'text-anchor="middle" fill="#24292f">{point["pages"] / 1e6:g} million</text>')
    for row, (key, title, color) in enumerate(LINES):
        path = " ".join(f"{x(p['pages']):.1f},{y(p[key] / 1000):.1f}" for p in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for point in points:
            out.append(
                f'<circle cx="{x(point["pages"]):.1f}" cy="{y(point[key] / 1000):.1f}" r="4" '
                f'fill="{color}"><title>{title}, {point["pages"] / 1e6:g} million pages: '
                f'{point[key] / 1000:.2f} µs</title></circle>'
            )
        out.append(f'<rect x="{left + row * 260}" y="16" width="12" height="12" fill="{color}"/>')
        out.append(f'<text x="{left + 17 + row * 260}" y="26" fill="#24292f">{title}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    vmckpt, bench, image, work = sys.argv[1:5]
    runs = int(sys.argv[5])
    points = index_points(bench, work, runs)
    print_points(points)
    if len(sys.argv) > 6:
        with open(sys.argv[6], "w", encoding="utf-8") as file:
            file.write(svg(points))
    full = f"{work}/full.db"
    print(f"scale: {PAGES} pages saved in {fill(vmckpt, bench, full):.0f} s", file=sys.stderr)
    compare(vmckpt, image, full, work, runs)


if __name__ == "__main__":
    main()
