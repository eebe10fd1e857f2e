"""Makes of the bench's figures what people read: tables with medians, spread and ratios on standard output, all of it as
JSON, curves as SVG, and which statements took PostgreSQL's time.

    report.py FIGURES OUT       FIGURES: lines as slipway-bench writes them; OUT: the folder for results.json and curves
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

import curves
import goals

# How each section is laid out: what stands in rows, and which measures in columns (all where there are none).
ROWS = {
    "engine": ("who", "case"),
    "latency": ("who",),
    "history": ("case",),
    "workers": ("case",),
    "servers": ("case",),
    "takeover": ("case",),
    "idle": ("case",),
    "deploy": ("case", "who"),
}


class Figures:
    """Every measure's repetitions, by section, case and whose it is."""

    def __init__(self, lines):
        self.values = defaultdict(list)
        self.units = {}
        self.profiles = {}
        for line in lines:
            one = json.loads(line)
            if "profile" in one:
                self.profiles[one["section"], one["case"], one["who"]] = one["profile"]
                continue
            self.values[one["section"], one["case"], one["who"], one["measure"]].append(one["value"])
            self.units[one["measure"]] = one["unit"]

    def get(self, section, case, who, measure):
        values = self.values.get((section, case, who, measure))
        return median(values) if values else None

    def of(self, section):
        """The section's keys, each once, in the order in which they came."""
        return [key[1:] for key in self.values if key[0] == section]

    def sections(self):
        return list(dict.fromkeys(key[0] for key in self.values))


def number(value):
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(values):
    text = number(median(values))
    return text if len(values) == 1 else f"{text} ({number(min(values))}–{number(max(values))})"


def table(header, rows):
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def section(figures, name):
    keys = figures.of(name)
    by = ROWS.get(name, ("case", "who"))
    row_of = lambda case, who: tuple({"case": case, "who": who}[part] for part in by)
    rows = list(dict.fromkeys(row_of(case, who) for case, who, _ in keys))
    measures = list(dict.fromkeys(measure for *_, measure in keys))
    cells = {(row_of(case, who), measure): spread(figures.values[name, case, who, measure]) for case, who, measure in keys}
    unit = lambda measure: f", {figures.units[measure]}" if figures.units[measure] else ""
    header = [*by, *(measure + unit(measure) for measure in measures)]
    if name == "deploy":
        return table(*with_ratios(figures, rows, measures, header, cells))
    return table(header, [[*row, *(cells.get((row, measure), "–") for measure in measures)] for row in rows])


def with_ratios(figures, rows, measures, header, cells):
    """Whole deployments beside the floor, and beside the floor that waits as Slipway does."""
    filled = []
    rows = sorted(rows, key=lambda row: list(dict.fromkeys(case for case, _ in rows)).index(row[0]))
    for case, who in rows:
        ratios = []
        for floor in ("floor", "floor + gate"):
            own, base = (figures.get("deploy", case, name, "time") for name in (who, floor))
            ratios.append(f"{own / base:.2f}" if own and base else "–")
        filled.append([case, who, *ratios, *(cells.get(((case, who), measure), "–") for measure in measures)])
    return [*header[:2], "× floor", "× floor + gate", *header[2:]], filled


def results(figures):
    """All figures with median, least and most, for whoever computes with them."""
    told = []
    for (name, case, who, measure), values in figures.values.items():
        told.append({"section": name, "case": case, "who": who, "measure": measure, "unit": figures.units[measure],
                     "median": median(values), "least": min(values), "most": max(values), "repetitions": len(values)})
    return told


def profiles(figures):
    """Which statements took PostgreSQL's time in the last repetition of each, for a deployment."""
    told = []
    for of, statements in figures.profiles.items():
        rows = [[number(calls), number(ms), text.replace("|", "\\|")[:160]] for text, calls, ms in statements]
        told.append(f"## {', '.join(of)}\n\n{table(['calls each', 'ms each', 'statement'], rows)}\n")
    return "\n".join(told)


def main():
    source, out = map(Path, sys.argv[1:])
    figures = Figures(source.read_text().splitlines())
    for name in figures.sections():
        print(f"\n## {name}\n\n{section(figures, name)}")
    verdicts = goals.verdicts(figures)
    if verdicts:
        print("\n## Goals, and who wins\n\n" + table(["what", "measured", "goal", ""], verdicts))
    out.mkdir(parents=True, exist_ok=True)
    told = {"figures": results(figures), "goals": [dict(zip(("what", "measured", "goal", "verdict"), v)) for v in verdicts]}
    (out / "results.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    (out / "profiles.md").write_text(profiles(figures))
    for name, svg in curves.draw(figures).items():
        (out / name).write_text(svg)
    print(f"\nresults.json, profiles.md and the curves are in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
