"""What the figures are held against, and who wins where others do the same."""

PEERS = ("taskiq", "faststream", "celery", "dramatiq", "procrastinate")
ENGINE = "concurrency 16"
SEVEN = "seven stages, concurrency 16"
FENCED = "fence and outbox, concurrency 16"
EQUAL = "seven stages, fence and outbox, concurrency 16"


def best(figures, section, case, measure, highest):
    """The best peer: name and value."""
    told = [(figures.get(section, case, peer, measure), peer) for peer in PEERS]
    told = [(value, peer) for value, peer in told if value is not None]
    return (max if highest else min)(told, default=(None, None))


def own(figures, section, measure, highest):
    """Slipway's best over all cases of a section."""
    cases = {case for case, who, what in figures.of(section) if who == "slipway" and what == measure}
    values = [figures.get(section, case, "slipway", measure) for case in cases]
    return (max if highest else min)(values, default=None)


def verdicts(figures):
    """Rows of text: what, measured, goal, verdict. What wasn't measured is left out."""
    rows = []

    def digits(value):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    def row(what, value, unit, goal, is_most=True):
        if value is not None:
            met = value <= goal if is_most else value >= goal
            rows.append([what, f"{digits(value)} {unit}".strip(), f"{'≤' if is_most else '≥'} {goal:,g} {unit}".strip(),
                         "met" if met else "NOT met"])

    def rivals(what, section, case, measure, highest):
        value, (other, peer) = figures.get(section, case, "slipway", measure), best(figures, section, case, measure, highest)
        if value is None or other is None:
            return None
        wins = value >= other if highest else value <= other
        rows.append([what, digits(value), f"best peer: {peer}, {digits(other)}", "Slipway wins" if wins else f"{peer} WINS"])
        return value / other

    ratio = rivals("throughput, 1/s, sixteen at once", "engine", ENGINE, "throughput", True)
    row("throughput beside the fastest peer, sixteen at once", ratio, "×", 2, is_most=False)
    mine, most = figures.get("engine", ENGINE, "slipway", "throughput"), own(figures, "engine", "throughput", True)
    fastest, other, fenced, equal = (
        best(figures, "engine", case, "throughput", True)[0] for case in (ENGINE, SEVEN, FENCED, EQUAL))
    if most and fastest:
        row("Slipway's best, 128 at once, beside that peer with sixteen", most / fastest, "×", 2, is_most=False)
    if mine and other:
        row("sixteen at once, peers with a deployment's seven stages", mine / other, "×", 2, is_most=False)
    if mine and fenced:
        row("sixteen at once, peers with a fence and an outbox", mine / fenced, "×", 2, is_most=False)
    if mine and equal:
        row("sixteen at once, peers with seven stages, a fence and an outbox", mine / equal, "×", 2, is_most=False)
    for measure in ("SQL statements each", "WAL each", "messages each", "CPU of PostgreSQL each", "CPU of worker each", "memory"):
        rivals(measure, "engine", ENGINE, measure, False)
    for measure in ("publish to first event, p99", "publish to result, p99", "event to subscriber, p99"):
        rivals(measure + ", ms", "latency", "half load", measure, False)
    for case, words in ((ENGINE, "sixteen at once"), ("concurrency 1", "one at a time")):
        row(f"SQL statements a deployment, {words}", figures.get("engine", case, "slipway", "SQL statements each"), "", 25)
    row("WAL a deployment", figures.get("engine", ENGINE, "slipway", "WAL each"), "B", 12_000)
    row("intake", figures.get("engine", "burst", "slipway", "intake"), "1/s", 3000, is_most=False)
    for told, measure in (("publish → accepted", "publish to first event, p99"), ("event → subscriber", "event to subscriber, p99")):
        for section, case, words in (("latency", "half load", "sixteen at once"), ("history", "0", "128 at once")):
            row(f"{told}, p99 at half load of {words}", figures.get(section, case, "slipway", measure), "ms", 50)
    history(figures, row)
    workers(figures, row)
    row("memory, idle", figures.get("idle", "workers 1", "slipway", "memory of a worker"), "MB", 20)
    row("memory, 1,000 in flight", figures.get("idle", "1000 in flight", "slipway", "memory of a worker"), "MB", 128)
    row("CPU, idle", figures.get("idle", "workers 1", "slipway", "CPU of a worker"), "% of a core", 0.1)
    row("SQL statements of 8 idle workers", figures.get("idle", "workers 8", "slipway", "SQL statements of all"), "1/s", 1)
    for case, seconds in (("default lease", 5), ("lease 1s", 1)):
        acted, told = (figures.get("takeover", case, "slipway", m) for m in ("until another acts", "until it's told"))
        row(f"takeover, {case}", acted, "s", seconds)
        row(f"told after that, {case}", told - acted if told is not None else None, "s", 1)
    deployments(figures, row)
    return rows


def history(figures, row):
    levels = sorted({int(case) for case, *_ in figures.of("history")})
    rates = [figures.get("history", str(level), "slipway", "throughput") for level in levels]
    if len(levels) > 1 and rates[0]:
        row(f"throughput with {levels[-1]:,} finished deployments, of that with none", rates[-1] / rates[0] * 100, "%", 90,
            is_most=False)


def workers(figures, row):
    for load, goal in (("stages of 20 ms, concurrency 8", 3), ("stages of 0 ms, concurrency 4", 2)):
        one, four = (figures.get("workers", f"{load}, workers {n}", "slipway", "throughput") for n in (1, 4))
        if one and four:
            row(f"throughput of four workers beside one, {load}", four / one, "×", goal, is_most=False)


def deployments(figures, row):
    bounds = (("nothing changed", "floor", 0.5), ("new commit", "floor + gate", 1.0), ("first", "floor", 1.15))
    for kind, floor, goal in bounds:
        for case in (f"{kind}, 0 ms", f"{kind}, 50 ms"):
            mine, base = (figures.get("deploy", case, who, "time") for who in ("slipway", floor))
            if mine and base:
                row(f"{case}: beside {floor}", mine / base, "×", goal)
    programs = (("nothing changed", 12), ("new commit", 30))
    for kind, goal in programs:
        row(f"programs started, {kind}", figures.get("deploy", f"{kind}, 0 ms", "slipway", "programs started"), "", goal)
    for kind, goal in (("nothing changed", 8), ("first", 12)):
        seen = figures.get("deploy", f"{kind}, 50 ms", "slipway", "round trips on the wire")
        counted = figures.get("deploy", f"{kind}, 0 ms", "slipway", "SSH round trips, by its own count")
        row(f"round trips, {kind}", counted if seen is None else seen, "", goal)
