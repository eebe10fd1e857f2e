"""nginx: by a reload for each switch, or by files that it looks for at each request."""

import os
import signal
import time
from pathlib import Path

from door import TLS_PORT, Door

LOCATION = """
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $upgraded;
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_read_timeout 1h;
        proxy_send_timeout 1h;
"""


class Nginx(Door):
    name = "nginx, reload"
    pid = "pid"

    def location(self, project):
        return f"proxy_pass http://127.0.0.1:{project.slots[project.slot]};"

    def site(self, project):
        server = f"location / {{ {self.location(project)} {LOCATION} }}"
        # Asked for once for each port.
        shared = " reuseport" if project is self.projects[0] else ""
        self.write(f"sites/{project.slug}.conf", f"""
server {{ listen {project.port} reuseport; {server} }}
server {{ listen {TLS_PORT} ssl http2{shared}; server_name {project.host}; {server} }}
""")

    def common(self):
        temporary = "".join(f"{name}_temp_path {self.folder}/{name};" for name in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.write("nginx.conf", f"""
daemon off; user root; pid {self.folder}/{self.pid}; worker_processes 2;
events {{ worker_connections 2048; }}
http {{
    access_log off; client_max_body_size 0; keepalive_requests 1000000; keepalive_timeout 300s; {temporary}
    ssl_certificate {self.world.certificate}; ssl_certificate_key {self.world.key};
    map $http_upgrade $upgraded {{ default upgrade; "" close; }}
    include {self.folder}/sites/*.conf;
}}
""")

    def run(self):
        self.process = self.spawn([self.world.program("nginx"), "-c", str(self.path("nginx.conf")), "-e", "stderr"])

    def route(self, project):
        self.site(project)
        self.reload()

    def master(self):
        return int(self.path(self.pid).read_text())

    def reload(self):
        """The new workers are there before the old ones are told to end."""
        before = self.workers()
        os.kill(self.master(), signal.SIGHUP)
        while len(self.workers() - before) < 2:
            time.sleep(0.01)
        time.sleep(0.05)

    def workers(self):
        return set(children(self.master()))

    def pids(self):
        return [self.master(), *self.workers()]

    def upgrade(self):
        """A second one beside the first, on the same ports (SO_REUSEPORT); QUIT ends the first when its connections do.
        The signal USR2 would pass the sockets on, but not in the foreground, as containers run it, nor to another image."""
        old = self.master()
        self.pid = f"pid{len(self.processes)}"
        self.common()
        self.run()
        while not self.path(self.pid).exists() or len(self.workers()) < 2:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(old, signal.SIGQUIT)


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


class NginxFiles(Nginx):
    name = "nginx, files"

    def location(self, project):
        """A variable address is looked up for each request; numbers need no resolver."""
        return f"""set $slot {project.slots["a"]};
            if (-f {self.path(f"routes/{project.slug}.b")}) {{ set $slot {project.slots["b"]}; }}
            proxy_pass http://127.0.0.1:$slot;"""

    def route(self, project):
        second = self.path(f"routes/{project.slug}.b")
        if project.slot == "b":
            second.touch()
        else:
            second.unlink(missing_ok=True)
