"""Requests a second through a door, and against what stands behind it."""

import re
import subprocess

SERVER = """
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_timeout 5s; keepalive_requests 1000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} reuseport; return 200 "answer"; }}
}}
"""


class FastServer:
    """nginx without a proxy's work: it must not be what limits the doors."""

    def __init__(self, world, port):
        folder = world.folder / f"fast{port}"
        folder.mkdir(exist_ok=True)
        config = folder / "nginx.conf"
        config.write_text(SERVER.format(folder=folder, port=port))
        self.process = subprocess.Popen([world.program("nginx"), "-c", str(config), "-e", "stderr"], env=world.environment,
                                        stderr=subprocess.DEVNULL)

    def end(self):
        self.process.terminate()
        self.process.wait()


def requests_a_second(world, port, seconds=5, connections=32, close=False):
    """By `wrk`, with one thread: the machine has two cores for all of it."""
    extra = ["-H", "Connection: close"] if close else []
    command = [world.program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", *extra, f"http://127.0.0.1:{port}/"]
    told = subprocess.run(command, capture_output=True, text=True, env=world.environment).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    if bad:
        raise SystemExit(f"error: {bad[0]} on port {port}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
