"""Runs the comparison and prints its table: `compare.py PROGRAMS [OPTION...]`, started by `run`."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import scenarios
from caddy import Caddy, CaddyKeepAlive, CaddyKeepAliveOff, CaddyNoDelay, CaddyReload
from haproxy import HAProxy, HAProxyReload
from nginx import Nginx, NginxFiles
from report import show
from traefik import Traefik
from world import World

DOORS = [Caddy, CaddyKeepAliveOff, CaddyKeepAlive, CaddyNoDelay, CaddyReload, HAProxy, HAProxyReload, NginxFiles, Nginx,
         Traefik]


def asked():
    parser = argparse.ArgumentParser(prog="run", description=__doc__)
    parser.add_argument("programs")
    parser.add_argument("--only", default="", help="these classes of doors, with commas between")
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=4, help="for each measurement of requests a second")
    parser.add_argument("--parts", default="sizes,switch,add,upgrade,idle")
    parser.add_argument("--json", help="where the figures go")
    return parser.parse_args()


def loopback():
    """In a network of its own nothing of the machine is met; and what was started ends with the run, however that ends."""
    if os.environ.get("FRONT_DOOR_NETWORK") == "own":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ["FRONT_DOOR_NETWORK"] = "own"
    os.execvp("unshare", ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, *sys.argv])


def main():
    options = asked()
    loopback()
    migrate = "/proc/sys/net/ipv4/tcp_migrate_req"
    if os.environ.get("FRONT_DOOR_MIGRATE"):
        with open(migrate, "w") as setting:
            setting.write(os.environ["FRONT_DOOR_MIGRATE"])
    words = [word for word in options.only.split(",") if word]
    doors = [door for door in DOORS if not words or door.__name__ in words]
    parts = options.parts.split(",")
    folder = tempfile.mkdtemp(prefix="front-door-", dir=os.environ.get("TMPDIR"))
    figures = {}
    world = World(options.programs, folder)
    try:
        if "sizes" in parts:
            figures["asked directly"] = {"sizes": scenarios.direct(world, options.seconds)}
        for door in doors:
            figures[door.name] = found = {}
            runs = {
                "sizes": lambda: scenarios.sizes(world, door, options.seconds),
                "switch": lambda: scenarios.switches(world, door, options.switches),
                "add": lambda: scenarios.disturbed(world, door, options.changes, "add"),
                "upgrade": lambda: scenarios.disturbed(world, door, options.changes, "upgrade"),
                "idle": lambda: scenarios.idle_ends(world, door, 26),
            }
            for part in parts:
                print(f"{door.name}: {part}", file=sys.stderr, flush=True)
                found[part] = {**runs[part](), "load": round(os.getloadavg()[0], 1)}
                print(f"    {json.dumps(found[part])}", file=sys.stderr, flush=True)
    finally:
        world.end()
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)
    print(show(figures))


main()
