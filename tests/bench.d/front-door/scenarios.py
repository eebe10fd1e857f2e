"""The same work for each candidate: switches, changes for others, upgrades, memory, requests a second."""

import socket
import time

from door import Project, connects
from throughput import FastServer, requests_a_second
from world import Probes, drained, probes

KINDS = ("new", "keepalive", "http2", "upload", "events", "websocket")
# While releases are switched, only the project's own uploads: two at once are too much for a small machine.
BESIDE = ("new", "keepalive", "http2", "events", "websocket")
DRAIN_LIMIT = 1.6
WAITING = 20


def longest(tallies):
    return max((tally["gap"] for name, tally in tallies.items() if name.endswith((" new", " keepalive"))), default=0)


def summed(tallies, slug):
    """For each kind of one project: answers, failures."""
    return {name.split(" ", 1)[1]: [tally["ok"], len(tally["failed"])] for name, tally in tallies.items()
            if name.startswith(slug)}


def switches(world, kind, count):
    """A release takes the place of another one, `count` times, while its project and another one are asked."""
    projects = [Project(number) for number in range(3)]
    for project in projects:
        world.start(project, "a")
    door = world.door(kind)
    try:
        door.start(projects)
        mine, other = projects[:2]
        asking = Probes(probes(mine, KINDS) + probes(other, BESIDE))
        time.sleep(1)
        stops, waits = [], []
        for _ in range(count):
            old, new = mine.slot, "b" if mine.slot == "a" else "a"
            world.start(mine, new)
            door.switch(mine, new)
            waits.append(drained(mine, old, DRAIN_LIMIT))
            begun = time.time()
            world.stop(mine, old)
            stops.append((begun, time.time() + 0.5))
        time.sleep(0.5)
        told = asking.end()
    finally:
        door.stop()
        world.end()
    for name in (f"{mine.slug} events", f"{mine.slug} websocket"):
        # A stream ends with the release that serves it: that is the drain limit's work and no fault of the door.
        told[name]["failed"] = [at for at in told[name]["failed"] if not any(begun <= at[0] <= end for begun, end in stops)]
    whys = sorted({why for tally in told.values() for _, why in tally["failed"]})
    return {"mine": summed(told, mine.slug), "other": summed(told, other.slug), "gap": longest(told), "whys": whys}


def disturbed(world, kind, count, what):
    """What others notice while the door is changed `count` times: a project is added, or the door is upgraded."""
    projects = [Project(number) for number in range(3)]
    for project in projects:
        world.start(project, "a")
    door = world.door(kind)
    lost = 0
    try:
        door.start(projects)
        other = projects[1]
        asking = Probes(probes(other, KINDS))
        time.sleep(1)
        for number in range(count):
            if what == "add":
                door.add(Project(10 + number))
            else:
                door.upgrade()
            time.sleep(0.5)
        told = asking.end()
        lost = unasked(door, other, Project(10 + count) if what == "add" else None)
    finally:
        door.stop()
        world.end()
    whys = sorted({why for tally in told.values() for _, why in tally["failed"]})
    return {"other": summed(told, other.slug), "gap": longest(told), "unasked": lost, "whys": whys}


def unasked(door, project, added):
    """Of 20 connections that were opened before one change and are used after it, as over a slow line: how many fail."""
    waiting = [socket.create_connection(("127.0.0.1", project.port)) for _ in range(WAITING)]
    time.sleep(0.2)
    door.add(added) if added else door.upgrade()
    failed = 0
    for client in waiting:
        try:
            client.settimeout(1)
            client.sendall(f"GET / HTTP/1.1\r\nHost: {project.host}\r\nConnection: close\r\n\r\n".encode())
            failed += b" 200 " not in client.recv(4096)
        except OSError:
            failed += 1
        client.close()
    return failed


def sizes(world, kind, seconds):
    """Memory with one and with twenty projects, and requests a second."""
    first = Project(0)
    server = FastServer(world, first.slots["a"])
    one, twenty = world.door(kind), world.door(kind)
    try:
        connects(first.slots["a"])
        one.start([first])
        time.sleep(1)
        memory = [one.resident()]
        rate = requests_a_second(world, first.port, seconds)
        apart = requests_a_second(world, first.port, seconds, close=True)
        one.stop()
        twenty.start([Project(number) for number in range(20)])
        time.sleep(1)
        memory.append(twenty.resident())
    finally:
        one.stop()
        twenty.stop()
        server.end()
    return {"memory": memory, "rate": rate, "rate of new connections": apart}


def direct(world, seconds):
    """The same without a door."""
    port = Project(0).slots["a"]
    server = FastServer(world, port)
    try:
        connects(port)
        return {"rate": requests_a_second(world, port, seconds),
                "rate of new connections": requests_a_second(world, port, seconds, close=True)}
    finally:
        server.end()


POSTS = (4.99, 4.995, 4.998, 4.999, 5.0, 5.001)


def idle_ends(world, kind, seconds):
    """POSTs at the moment when the service ends connections that were idle for five seconds."""
    project = Project(0)
    world.start(project, "a")
    door = world.door(kind)
    try:
        door.start([project])
        asking = Probes([{**probe, "name": f"{pace} {number}"} for pace in POSTS for number in range(10)
                         for probe in probes(project, ["keepalive"], pace=pace, post=True)])
        time.sleep(seconds)
        told = asking.end()
    finally:
        door.stop()
        world.end()
    return {"ok": sum(tally["ok"] for tally in told.values()),
            "failed": sum(len(tally["failed"]) for tally in told.values())}
