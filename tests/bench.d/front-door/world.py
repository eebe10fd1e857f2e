"""The programs, the certificate, and what stands behind the doors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from door import TLS_PORT, gone

HERE = Path(__file__).parent
LIBRARIES = "usr/lib/x86_64-linux-gnu"


class World:
    def __init__(self, programs, folder):
        self.programs, self.folder, self.upstreams, self.doors = Path(programs), Path(folder), {}, 0
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": f"{folder}/xdg",
                            "LD_LIBRARY_PATH": str(self.programs / LIBRARIES)}
        self.certificate, self.key = self.folder / "certificate.pem", self.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=DNS:*.test", "-out",
                        str(self.certificate), "-keyout", str(self.key)], check=True, capture_output=True)
        both = self.folder / "both.pem"
        both.write_text(self.certificate.read_text() + self.key.read_text())

    def program(self, name):
        return str(next(path for folder in ("bin", "usr/sbin", "usr/bin")
                        if (path := self.programs / folder / name).exists()))

    def door(self, door):
        self.doors += 1
        return door(self, self.folder / f"door{self.doors}")

    def start(self, project, slot, idle=5):
        """What serves a project on one slot; it says its slot's name to whoever asks."""
        command = [sys.executable, str(HERE / "upstream.py"), str(project.slots[slot]), slot, str(idle)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.upstreams[project.slug, slot] = process
        if process.stdout.readline() != b"ready\n":
            raise SystemExit(f"error: nothing serves {project.slug} on port {project.slots[slot]}")

    def stop(self, project, slot):
        process = self.upstreams.pop((project.slug, slot))
        process.send_signal(signal.SIGTERM)
        gone(process, 5)

    def end(self):
        for process in self.upstreams.values():
            process.kill()
            process.wait()
        self.upstreams = {}


class Probes:
    """A process that asks, beside the one that switches."""

    def __init__(self, probes):
        self.process = subprocess.Popen([sys.executable, str(HERE / "probes.py"), json.dumps(probes)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def end(self):
        told, _ = self.process.communicate()
        return json.loads(told)


def probes(project, kinds, **more):
    """What asks one project in these ways."""
    return [{"name": f"{project.slug} {kind}", "kind": kind, "host": project.host,
             "port": TLS_PORT if kind == "http2" else project.port, **more} for kind in kinds]


def established(port):
    """How many connections a slot has, as the server would ask."""
    told = subprocess.run(["ss", "-Htn", "state", "established", f"( sport = :{port} )"], capture_output=True, text=True)
    return len(told.stdout.splitlines())


def drained(project, slot, limit):
    """Waits until nothing is under way on a slot; the seconds that took, or None at the limit."""
    begun = time.time()
    while time.time() - begun < limit:
        if not established(project.slots[slot]):
            return time.time() - begun
        time.sleep(0.05)
    return None
