"""The table of a comparison, as Markdown: a column for each candidate."""

KINDS = ("new", "keepalive", "http2", "upload", "events", "websocket")
WORDS = {"new": "new connections", "keepalive": "keep-alive", "http2": "HTTP/2", "upload": "uploads of 50 MB",
         "events": "server-sent events", "websocket": "websockets"}


def of(figures, door, *path):
    """One figure, or nothing where it wasn't measured."""
    found = figures[door]
    for step in path:
        if not isinstance(found, dict) or step not in found:
            return None
        found = found[step]
    return found


def failures(told):
    """What failed, of how many were asked."""
    if not told:
        return ""
    ok, failed = told
    return f"{failed} of {ok + failed:,}" if failed else "0"


def rate(value):
    return "" if value is None else f"{value:,.0f}"


def milliseconds(value):
    return "" if value is None else f"{value * 1000:.0f} ms"


def rows(figures, doors):
    def row(what, value):
        return [what, *(value(door) for door in doors)]

    def plain(value):
        return "" if value is None else str(value)

    for part, whose, title in (("switch", "mine", "switches, the project itself"), ("switch", "other", "switches, another project"),
                               ("add", "other", "a project comes, another one"), ("upgrade", "other", "upgrades, any project")):
        for kind in KINDS:
            yield row(f"{title}: {WORDS[kind]}", lambda door: failures(of(figures, door, part, whose, kind)))
    for part in ("switch", "add", "upgrade"):
        yield row(f"{part}: longest time between two answers", lambda door: milliseconds(of(figures, door, part, "gap")))
    for part in ("add", "upgrade"):
        yield row(f"{part}: of 20 connections opened before and used after, lost",
                  lambda door: plain(of(figures, door, part, "unasked")))
    yield row("POSTs as idle connections end", lambda door: failures(
        of(figures, door, "idle") and [of(figures, door, "idle", "ok"), of(figures, door, "idle", "failed")]))
    yield row("requests a second, keep-alive", lambda door: rate(of(figures, door, "sizes", "rate")))
    yield row("requests a second, new connections", lambda door: rate(of(figures, door, "sizes", "rate of new connections")))
    yield row("memory with 1 and 20 projects, MB", lambda door: " / ".join(
        f"{value:.0f}" for value in of(figures, door, "sizes", "memory") or []))
    for part in ("switch", "add", "upgrade", "idle", "sizes"):
        yield row(f"load of the machine: {part}", lambda door: plain(of(figures, door, part, "load")))


def show(figures):
    doors = list(figures)
    lines = [["", *doors], ["---"] * (len(doors) + 1), *(row for row in rows(figures, doors) if any(row[1:]))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
