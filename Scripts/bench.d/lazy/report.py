"""The table and the plot of what was measured."""

import html
import math


def table(rows):
    lines = ["| what | measured | goal | beside |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row.what} | {row.measured} | {row.goal} | {row.beside} |")
    return "\n".join(lines)


def svg(rows):
    """A bar for each row that has seconds, in groups; time on a logarithmic scale, since a restore takes a hundred
    times what a start by postcopy takes."""
    shown = [row for row in rows if row.seconds]
    groups = list(dict.fromkeys(row.group for row in shown))
    low = 10 ** math.floor(math.log10(min(row.seconds for row in shown)))
    high = 10 ** math.ceil(math.log10(max(row.seconds for row in shown)))
    width, left, line, top = 1080, 540, 22, 30
    height = top + line * (len(shown) + len(groups) * 2) + 20

    def x(seconds):
        share = (math.log10(seconds) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return left + (width - left - 90) * share

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        "<title>Seconds until a stored guest runs, and until it has done some work; less is better</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    tick = low
    while tick <= high * 1.0001:
        out.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 8}" y2="{height - 8}" stroke="#c9d1d9"/>'
            f'<text x="{x(tick):.1f}" y="{top - 12}" text-anchor="middle" fill="#57606a">{tick:g} s</text>'
        )
        tick *= 10
    y = top
    for group in groups:
        y += line
        out.append(f'<text x="8" y="{y + 4}" fill="#24292f" font-weight="bold">{html.escape(group)}</text>')
        for row in shown:
            if row.group != group:
                continue
            y += line
            name = html.escape(row.what.replace("`", ""))
            out.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="#24292f">{name}</text>')
            out.append(
                f'<rect x="{left}" y="{y - 8}" width="{max(1.0, x(row.seconds) - left):.1f}" height="15" '
                f'fill="#0b5fff"><title>{name}: {html.escape(row.measured)}</title></rect>'
                f'<text x="{x(row.seconds) + 6:.1f}" y="{y + 4}" fill="#57606a">'
                f"{html.escape(row.measured.split(' (')[0])}</text>"
            )
        y += line
    out.append("</svg>")
    return "\n".join(out) + "\n"
