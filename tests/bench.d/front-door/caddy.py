"""Caddy: by files that it looks for at each request, without a reload, or by one reload for each switch."""

import signal
import time

from door import TLS_PORT, Door


class Caddy(Door):
    name = "Caddy, files"
    # Shorter than any program keeps idle connections; and what the door adds and unpacks isn't the project's answer.
    transport = "keepalive 1s\ncompression off"
    # How long streams of a configuration that is replaced may go on.
    close_delay = "24h"

    def proxy(self, project, slot):
        delay = f"stream_close_delay {self.close_delay}" if self.close_delay else ""
        return f"""reverse_proxy 127.0.0.1:{project.slots[slot]} {{
            transport http {{
                {self.transport}
            }}
            {delay}
        }}"""

    def handlers(self, project):
        routes = self.path(f"routes/{project.slug}/x").parent
        return "\n".join(f"""
        @{slot} file {{
            root {routes}
            try_files {project.port}.{slot}
        }}
        handle @{slot} {{
            {self.proxy(project, slot)}
        }}""" for slot in "ba") + "\nhandle {\nrespond 503\n}"

    def site(self, project):
        self.route(project)
        handlers = self.handlers(project)
        self.write(f"sites/{project.slug}.caddy", f"""
http://:{project.port} {{
    {handlers}
}}
https://{project.host}:{TLS_PORT} {{
    tls {self.world.certificate} {self.world.key}
    {handlers}
}}
""")

    def route(self, project):
        self.path(f"routes/{project.slug}/{project.port}.a").touch()
        second = self.path(f"routes/{project.slug}/{project.port}.b")
        if project.slot == "b":
            second.touch()
        else:
            second.unlink(missing_ok=True)

    def common(self, socket="admin"):
        self.write("Caddyfile", f"""
{{
    admin unix/{self.folder}/{socket}
    auto_https off
    persist_config off
    storage file_system {self.folder}/data
}}
import {self.folder}/sites/*.caddy
""")
        self.admin = f"unix/{self.folder}/{socket}"

    def run(self):
        program = self.world.program("caddy")
        self.process = self.spawn([program, "run", "--config", str(self.path("Caddyfile")), "--adapter", "caddyfile"])

    def reload(self):
        self.tell([self.world.program("caddy"), "reload", "--config", str(self.path("Caddyfile")), "--adapter", "caddyfile",
                   "--address", self.admin])

    def upgrade(self):
        """A second one beside the first, on the same ports (SO_REUSEPORT); then the first ends."""
        old, count = self.process, len(self.processes)
        self.common(f"admin{count}")
        self.run()
        while not self.path(f"admin{count}").exists():
            time.sleep(0.02)
        time.sleep(0.3)
        old.send_signal(signal.SIGTERM)


class CaddyReload(Caddy):
    name = "Caddy, reload"

    def handlers(self, project):
        return self.proxy(project, project.slot)

    def route(self, project):
        pass

    def switch(self, project, slot):
        project.slot = slot
        self.site(project)
        self.reload()


class CaddyKeepAlive(Caddy):
    name, transport = "Caddy, files, keepalive default", "compression off"


class CaddyKeepAliveOff(Caddy):
    name, transport = "Caddy, files, keepalive off", "keepalive off\ncompression off"


class CaddyNoDelay(Caddy):
    name, close_delay = "Caddy, files, no stream_close_delay", ""
