"""Curves as SVG, drawn by hand: one axis each way, a line for each series, its name at its end."""

from math import ceil, floor, log10

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 40, 45
COLOURS = ("#0b6e99", "#d9730d", "#0f7b6c", "#6940a5", "#ad1a72", "#787774")


def draw(figures):
    """The files, by name; only those whose section was measured."""
    files = {}
    history = series(figures, "history", lambda case: ("slipway", max(int(case), 100)))
    if history:
        named = {"0": 100}
        ticks = sorted({point for points in history.values() for point, _ in points})
        label = lambda tick: "0" if tick in named.values() else f"10{superscript(round(log10(tick)))}"
        files["history.svg"] = chart("No-op deployments a second, by finished deployments in the database", history, ticks, label)
    by_workers = series(figures, "workers", lambda case: (case.split(",")[0], int(case.split()[-1])))
    if by_workers:
        files["workers.svg"] = chart("Deployments a second, by worker processes", by_workers, (1, 2, 4, 8), str)
    by_servers = series(figures, "servers", lambda case: ("slipway", int(case.split()[-1])))
    if by_servers:
        ticks = sorted({point for points in by_servers.values() for point, _ in points})
        title = "Deployments a second by servers (stages of 20 ms, two at once on each server)"
        files["servers.svg"] = chart(title, by_servers, ticks, str)
    return files


def series(figures, section, place):
    """Each line's name with its points: where, and the median throughput."""
    lines = {}
    for case, who, measure in figures.of(section):
        if measure == "throughput":
            name, where = place(case)
            lines.setdefault(name, []).append((where, figures.get(section, case, who, measure)))
    return {name: sorted(points) for name, points in lines.items()}


def superscript(number):
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))


def chart(title, lines, ticks, label):
    """Logarithmic to the right, linear from 0 upwards."""
    first, last = log10(min(ticks)), log10(max(ticks))
    highest = nice(max(value for points in lines.values() for _, value in points))
    x = lambda where: LEFT + (WIDTH - LEFT - RIGHT) * ((log10(where) - first) / ((last - first) or 1))
    y = lambda value: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / highest
    text = lambda left, top, what, more="": f'<text x="{left:.0f}" y="{top:.0f}" {more}>{what}</text>'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(LEFT, 20, title, 'font-size="14"')]
    for part in range(5):
        value = highest * part / 4
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, y(value) + 4, f"{value:g}", 'text-anchor="end"'))
    for tick in ticks:
        parts.append(text(x(tick), HEIGHT - BOTTOM + 18, label(tick), 'text-anchor="middle"'))
    for colour, (name, points) in zip(COLOURS, lines.items()):
        path = " ".join(f"{x(where):.1f},{y(value):.1f}" for where, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(where):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for where, value in points]
        where, value = points[-1]
        parts.append(text(x(where) + 8, y(value) + 4, f"{name}: {value:.0f}/s", f'fill="{colour}"'))
    return "\n".join([*parts, "</svg>"]) + "\n"


def nice(value):
    """The next number of one leading digit at or above."""
    unit = 10 ** floor(log10(max(value, 1)))
    return ceil(value / unit) * unit
