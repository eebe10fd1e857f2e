"""What every door has: a folder, a process, the projects that it serves. Each candidate says how it's told."""

import signal
import socket
import subprocess
import time
from pathlib import Path

TLS_PORT = 21443


class Project:
    def __init__(self, number):
        self.slug = f"p{number:02}"
        self.host, self.port = f"{self.slug}.test", 21000 + number
        self.slots = {"a": 30001 + 2 * number, "b": 30002 + 2 * number}
        self.slot = "a"


class Door:
    """One candidate, configured as Slipway would: one file for each project beside a common one."""

    name = "?"

    def __init__(self, world, folder):
        self.world, self.folder, self.projects, self.processes = world, Path(folder), [], []
        self.folder.mkdir(parents=True)

    def path(self, name):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name, text):
        """All of it or nothing: doors that watch their files see no half of one."""
        path = self.path(name)
        part = path.with_name(f".{path.name}.part")
        part.write_text(text)
        part.rename(path)

    def spawn(self, command):
        log = open(self.path("log"), "ab")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.world.environment)
        self.processes.append(process)
        return process

    def tell(self, command):
        done = subprocess.run(command, capture_output=True, text=True, env=self.world.environment)
        if done.returncode:
            raise SystemExit(f"error: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, projects):
        self.projects = list(projects)
        for project in projects:
            self.site(project)
        self.common()
        self.run()
        self.wait()

    def wait(self):
        for project in self.projects:
            connects(project.port)

    def switch(self, project, slot):
        project.slot = slot
        self.route(project)

    def add(self, project):
        self.projects.append(project)
        self.site(project)
        self.common()
        self.reload()
        connects(project.port)

    def pids(self):
        """Every process of the door that lives, children too."""
        found = [process.pid for process in self.processes if process.poll() is None]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            if children.exists():
                found.extend(int(child) for child in children.read_text().split())
        return found

    def resident(self):
        """Memory of its own that the door holds, in MB."""
        total = 0
        for pid in self.pids():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        return total / 1000

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def connects(port, patience=10):
    end = time.time() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.time() > end:
                raise SystemExit(f"error: nothing listens on port {port} after {patience} s") from None
            time.sleep(0.02)


def gone(process, patience=20):
    """Waits for the end of a process that was asked to end, and ends it then."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
