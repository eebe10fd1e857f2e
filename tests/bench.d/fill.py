"""Puts what was measured into the documents that tell it: between `<!-- bench NAME -->` and `<!-- /bench -->` stands what
this script made of the figures. What wasn't measured stays as it is.

    fill.py FIGURES DOCUMENT...
"""

import os
import re
import sys
from datetime import date
from pathlib import Path

import capacity
import goals
import report

PART = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def machine():
    """Where it was measured: ratios hold on other machines, times don't."""
    name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) / 1_048_576
    commit = os.popen("git rev-parse --short HEAD").read().strip()
    processor = name[1] if name else os.uname().machine
    return f"{date.today()}, commit {commit}: {os.cpu_count()} cores ({processor}), {memory:.0f} GB.\n"


def parts(figures):
    """The text of each part by its name."""
    made = {name: report.section(figures, name) + "\n" for name in figures.sections()}
    made["machine"] = machine()
    verdicts = goals.verdicts(figures)
    if verdicts:
        made["goals"] = report.table(["what", "measured", "goal", ""], verdicts) + "\n"
    told = capacity.table(figures)
    if told:
        made["capacity"] = report.table(*told) + "\n"
    return made


def main():
    source, *documents = map(Path, sys.argv[1:])
    made = parts(report.Figures(source.read_text().splitlines()))
    fill = lambda found: found[1] + made[found[2]] + found[3] if found[2] in made else found[0]
    for document in documents:
        document.write_text(PART.sub(fill, document.read_text()))


if __name__ == "__main__":
    main()
