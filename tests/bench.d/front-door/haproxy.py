"""HAProxy: by its runtime API, which changes where a port leads in a running process, or by a reload for each switch."""

import socket
import time

from door import TLS_PORT, Door


class HAProxy(Door):
    name = "HAProxy, runtime API"

    def site(self, project):
        pass

    def common(self):
        both = self.world.folder / "both.pem"
        text = f"""
global
    stats socket {self.folder}/admin mode 600 level admin expose-fd listeners
    maxconn 2000
    nbthread 2
    server-state-file {self.folder}/state
    hard-stop-after 24h
defaults
    mode http
    load-server-state-from-file global
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 24h
    timeout http-request 60s
    option http-server-close
    option idle-close-on-response
frontend secure
    bind :{TLS_PORT} ssl crt {both} alpn h2,http/1.1
    use_backend %[req.hdr(host),field(1,:),map_str({self.path("hosts")},none)]
backend none
    http-request return status 503
"""
        for project in self.projects:
            text += f"""
frontend {project.slug}
    bind :{project.port}
    default_backend {project.slug}
backend {project.slug}
    http-request set-header X-Forwarded-For %[src]
    use-server b if {{ str({project.slug}),map_str({self.path("slots")}) -m str b }}
    use-server a if {{ str({project.slug}),map_str({self.path("slots")}) -m str a }}
    server a 127.0.0.1:{project.slots["a"]}
    server b 127.0.0.1:{project.slots["b"]}
"""
        self.write("haproxy.cfg", text)
        self.write("hosts", "".join(f"{project.host} {project.slug}\n" for project in self.projects))
        self.map()

    def map(self):
        self.write("slots", "".join(f"{project.slug} {project.slot}\n" for project in self.projects))

    def command(self, *more):
        return [self.world.program("haproxy"), "-db", "-f", str(self.path("haproxy.cfg")), *more]

    def run(self):
        self.process = self.spawn(self.command())

    def ask(self, line):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.path("admin")))
            admin.sendall(f"{line}\n".encode())
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode().strip()

    def route(self, project):
        """In the process, and in the file, which the next one reads."""
        self.map()
        told = self.ask(f"set map {self.path('slots')} {project.slug} {project.slot}")
        if told:
            raise SystemExit(f"error: HAProxy refused a map's entry: {told}")

    def reload(self):
        """A new process takes the sockets from the old one, which ends when its last connection does."""
        old, self.process = self.process, None
        self.process = self.spawn(self.command("-x", str(self.path("admin")), "-sf", str(old.pid)))
        while f"Pid: {self.process.pid}" not in self.ask("show info"):
            time.sleep(0.02)

    upgrade = reload


class HAProxyReload(HAProxy):
    name = "HAProxy, reload"

    def route(self, project):
        self.map()
        self.reload()
