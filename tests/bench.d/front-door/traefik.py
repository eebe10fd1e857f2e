"""Traefik: its file provider watches a folder. A port of its own is an entry point, which only a restart adds."""

import json
import time

from door import TLS_PORT, Door


class Traefik(Door):
    name = "Traefik, file provider"

    def site(self, project):
        self.route(project)

    def route(self, project):
        routers = {
            project.slug: {"entryPoints": [project.slug], "rule": "PathPrefix(`/`)", "service": project.slug},
            f"{project.slug}-tls": {"entryPoints": ["secure"], "rule": f"Host(`{project.host}`)", "service": project.slug,
                                    "tls": {}},
        }
        service = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{project.slots[project.slot]}"}],
                                    "responseForwarding": {"flushInterval": "-1ns"}, "serversTransport": project.slug}}
        http = {"routers": routers, "services": {project.slug: service},
                "serversTransports": {project.slug: {"maxIdleConnsPerHost": -1}}}
        self.write(f"sites/{project.slug}.yml", json.dumps({"http": http}))

    def switch(self, project, slot):
        super().switch(project, slot)
        # It doesn't tell when it has taken a file: what is stopped earlier than that is asked still.
        time.sleep(0.5)

    def common(self):
        certificate = {"certFile": str(self.world.certificate), "keyFile": str(self.world.key)}
        tls = {"certificates": [certificate], "stores": {"default": {"defaultCertificate": certificate}}}
        self.write("sites/common.yml", json.dumps({"tls": tls}))
        timeouts = {"respondingTimeouts": {"readTimeout": "0s", "idleTimeout": "300s"},
                    "lifeCycle": {"graceTimeOut": "24h"}}
        points = {project.slug: {"address": f":{project.port}", "reusePort": True, "transport": timeouts}
                  for project in self.projects}
        points["secure"] = {"address": f":{TLS_PORT}", "reusePort": True, "transport": timeouts}
        self.write("traefik.yml", json.dumps({
            "entryPoints": points, "providers": {"file": {"directory": str(self.path("sites/x").parent), "watch": True},
                                                 "providersThrottleDuration": "100ms"},
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False}}))

    def run(self):
        self.process = self.spawn([self.world.program("traefik"), f"--configFile={self.path('traefik.yml')}"])

    def upgrade(self):
        """A second one beside the first, on the same ports (SO_REUSEPORT); then the first ends."""
        old = self.process
        self.run()
        time.sleep(2)
        old.terminate()

    reload = upgrade
