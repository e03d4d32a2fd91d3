"""Prints what Scripts/bench measured as a Markdown table and draws it.

Usage: report.py RESULTS CORES CPU [SVG]
A line of RESULTS is: tool, work, nanoseconds or bytes, peak resident KiB.
"""

import statistics
import sys

WORKS = [
    ("first", "first save"),
    ("next", "next save"),
    ("next-2", "next but one"),
    ("boot", "another boot"),
    ("restore", "restore"),
]
COMMANDS = {
    "vmckpt": "vmckpt",
    "cp": "cp --sparse=always",
    "lz4": "lz4 -1",
    "zstd": "zstd -1 -T0",
    "restic": "restic",
    "borg": "borg -C lz4",
    "casync": "casync",
}


def read(path):
    """Values by (tool, work) in the order of runs, peaks by tool, versions by tool."""
    values, peaks, versions = {}, {}, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            fields = line.split()
            tool, work = fields[0], fields[1]
            if work == "version":
                versions[tool] = " ".join(fields[2:-1])
                continue
            values.setdefault((tool, work), []).append(int(fields[2]))
            peaks[tool] = max(peaks.get(tool, 0), int(fields[3]))
    return values, peaks, versions


def ratio(values, work, peer):
    """The median over runs of vmckpt's value by the peer's of the same run."""
    pairs = zip(values[("vmckpt", work)], values[(peer, work)])
    return statistics.median(ours / theirs for ours, theirs in pairs)


def seconds(values, tool, work):
    return statistics.median(values[(tool, work)]) / 1e9


def table(values, peaks, versions):
    tools = [tool for tool in COMMANDS if (tool, "first") in values]
    rows = ["| tool | " + " | ".join(title for _, title in WORKS) + " | stored | peak memory |"]
    rows.append("|---" * (len(WORKS) + 3) + "|")
    for tool in tools:
        cells = []
        for work, _ in WORKS:
            cell = f"{seconds(values, tool, work):.2f} s"
            if tool != "vmckpt":
                cell += f" ({ratio(values, work, tool):.2f})"
            cells.append(cell)
        stored = statistics.median(values[(tool, "store-boot")]) / 1e6
        cell = f"{stored:.0f} MB"
        if tool != "vmckpt":
            cell += f" ({ratio(values, 'store-boot', tool):.2f})"
        cells += [cell, f"{peaks[tool] / 1024:.0f} MiB"]
        name = f"`{COMMANDS[tool]}` {versions.get(tool, '')}".strip()
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def svg(values):
    """A group of bars for each work, a bar for each tool; time on a logarithmic scale, because the
    slowest takes tens of times what the fastest takes."""
    import math

    tools = [tool for tool in COMMANDS if (tool, "first") in values]
    colors = ["#0b5fff", "#9aa5b1", "#7bb274", "#4c9f70", "#e0a458", "#c8553d", "#7d5ba6"]
    times = [seconds(values, tool, work) for tool in tools for work, _ in WORKS]
    low = 10 ** math.floor(math.log10(min(times)))
    high = 10 ** math.ceil(math.log10(max(times)))
    width, height, left, top, bottom = 860, 380, 56, 44, 40
    plot_height = height - top - bottom

    def y(value):
        share = (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return top + plot_height * (1 - share)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>Seconds for saves and a restore of 1 GiB of guest RAM, by tool; less is better"
        "</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    tick = low
    while tick <= high * 1.0001:
        for step in (1, 2, 5):
            value = tick * step
            if value > high * 1.0001:
                break
            stroke = "#c9d1d9" if step == 1 else "#eef1f4"
            out.append(
                f'<line x1="{left}" x2="{width - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
                f'stroke="{stroke}"/>'
            )
            out.append(
                f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end" '
                f'fill="#57606a">{value:g} s</text>'
            )
        tick *= 10
    group = (width - left - 8) / len(WORKS)
    bar = group * 0.84 / len(tools)
    for column, (work, title) in enumerate(WORKS):
        start = left + column * group + group * 0.08
        for index, tool in enumerate(tools):
            value = seconds(values, tool, work)
            x = start + index * bar
            out.append(
                f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{bar - 1:.1f}" '
                f'height="{height - bottom - y(value):.1f}" fill="{colors[index]}">'
                f"<title>{COMMANDS[tool]}, {title}: {value:.2f} s</title></rect>"
            )
        out.append(
            f'<text x="{left + (column + 0.5) * group:.1f}" y="{height - bottom + 20}" '
            f'text-anchor="middle" fill="#24292f">{title}</text>'
        )
    x = left
    for index, tool in enumerate(tools):
        out.append(f'<rect x="{x}" y="16" width="12" height="12" fill="{colors[index]}"/>')
        out.append(f'<text x="{x + 17}" y="26" fill="#24292f">{COMMANDS[tool]}</text>')
        x += 34 + 7 * len(COMMANDS[tool])
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    path, cores, cpu = sys.argv[1:4]
    values, peaks, versions = read(path)
    runs = len(values[("vmckpt", "first")])
    print(f"{cores} cores of {cpu}; medians of {runs} runs, each command with the sync after it;")
    print("in brackets vmckpt's part of the tool's time or bytes, the median over the runs.\n")
    print(table(values, peaks, versions))
    if len(sys.argv) > 4:
        with open(sys.argv[4], "w", encoding="utf-8") as file:
            file.write(svg(values))


if __name__ == "__main__":
    main()
