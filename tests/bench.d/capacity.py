"""What so many deployments an hour take, computed from what one takes that is alone: where many come at once, their writes are
grouped, and take less."""

RATES = (10, 1_000, 100_000)
# How long a real deployment holds its slot where none was measured, and how many a worker does at once.
SECONDS, SLOTS = 20, 50


def table(figures):
    """Header and rows; nothing where section `engine` wasn't measured."""
    case = "concurrency 1"
    one = lambda measure: figures.get("engine", case, "slipway", measure)
    if one("throughput") is None:
        return None
    seconds = figures.get("deploy", "new commit, 50 ms", "slipway", "time") or SECONDS
    most = max(figures.get("engine", f"concurrency {n}", "slipway", "throughput") or 0 for n in (1, 16, 128))
    row_bytes = bytes_each(figures)
    rows = [["deployments a second", *(short(rate / 3600) for rate in RATES)]]

    def row(what, value):
        rows.append([what, *(value(rate / 3600) for rate in RATES)])

    row("of what this machine could do", lambda a_second: f"{short(a_second / most * 100)} %")
    row("PostgreSQL: cores", lambda a_second: short(a_second * one('CPU of PostgreSQL each') / 1000))
    row("PostgreSQL: statements a second", lambda a_second: short(a_second * one('SQL statements each')))
    row("PostgreSQL: write-ahead log a day", lambda a_second: size(a_second * 86_400 * one("WAL each")))
    if row_bytes:
        row("PostgreSQL: disk for each 30 days that are kept", lambda a_second: size(a_second * 86_400 * 30 * row_bytes))
    row("RabbitMQ: cores", lambda a_second: short(a_second * one('CPU of RabbitMQ each') / 1000))
    row("RabbitMQ: messages a second", lambda a_second: short(a_second * one('messages each')))
    row("workers: cores for the engine", lambda a_second: short(a_second * one('CPU of worker each') / 1000))
    row(f"deployments in flight, of {seconds:.0f} s each", lambda a_second: short(a_second * seconds))
    row(f"workers, of {SLOTS} slots each, and one that may be lost",
        lambda a_second: f"{max(1, -(-a_second * seconds // SLOTS)) + 1:.0f}")
    return ["", *(f"{rate:,} an hour" for rate in RATES)], rows


def short(value):
    """Two digits that count, without powers of ten."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 0.001 else "< 0.001"


def bytes_each(figures):
    """Disk for each finished deployment, from how the database grew."""
    sizes = {int(case): figures.get("history", case, "slipway", "database") for case, _, measure in figures.of("history")
             if measure == "database"}
    least, most = min(sizes, default=0), max(sizes, default=0)
    return (sizes[most] - sizes[least]) * 1e6 / (most - least) if most > least else None


def size(value):
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
