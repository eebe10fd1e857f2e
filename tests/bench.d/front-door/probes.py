"""Asks through a door, in several ways at once, until its input ends; then says in JSON what came of it.

    probes.py '[{"name": "a keep-alive", "kind": "keepalive", "port": 21001, "host": "a.test"}, ...]'

For each: answers, what failed with its time, connections that the door closed between two requests as it may, and the
longest time between two answers. A connection that turns out to be closed before anything is sent on it is no failure;
one that breaks under a request is.
"""

import asyncio
import base64
import json
import os
import ssl
import sys
import time

import http2

PACE = 0.01
UPLOAD, CHUNK, RATE = 50 * 1000 * 1000, 250 * 1000, 40 * 1000 * 1000
PATIENCE = 10


class Tally:
    def __init__(self, name):
        self.name, self.ok, self.failed, self.closed, self.gap, self.last = name, 0, [], 0, 0.0, None
        self.sources = {}

    def good(self, source=None):
        now = time.time()
        if self.last is not None:
            self.gap = max(self.gap, now - self.last)
        self.ok, self.last = self.ok + 1, now
        if source:
            self.sources[source] = self.sources.get(source, 0) + 1

    def bad(self, why):
        self.failed.append([time.time(), f"{type(why).__name__} {why}"[:80] if isinstance(why, Exception) else why])

    def told(self):
        return {"ok": self.ok, "failed": self.failed, "closed": self.closed, "gap": self.gap, "sources": self.sources}


async def response(reader):
    """Status, whether the connection goes on, and the body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if headers.get("transfer-encoding") == "chunked":
        data = b""
        while size := int((await reader.readline()).strip(), 16):
            data += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        data = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split(" ")[1]), headers.get("connection") != "close", data.decode()


def request(host, method="GET", path="/", size=0, extra=""):
    length = f"Content-Length: {size}\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{extra}\r\n".encode()


async def connect(probe):
    context = None
    if probe.get("tls"):
        context = ssl._create_unverified_context()
    return await asyncio.open_connection("127.0.0.1", probe["port"], ssl=context,
                                         server_hostname=probe["host"] if context else None)


async def new(probe, tally):
    """A connection for each request, every 10 ms, whether or not those before have been answered."""
    async def once():
        writer = None
        try:
            reader, writer = await asyncio.wait_for(connect(probe), PATIENCE)
            writer.write(request(probe["host"], extra="Connection: close\r\n"))
            status, _, text = await asyncio.wait_for(response(reader), PATIENCE)
            tally.good(text) if status == 200 else tally.bad(f"status {status}")
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            tally.bad(error)
        finally:
            if writer:
                writer.close()

    waiting = set()
    try:
        while True:
            waiting.add(asyncio.create_task(once()))
            await asyncio.sleep(PACE)
            waiting = {task for task in waiting if not task.done()}
    finally:
        await asyncio.gather(*waiting)


async def keepalive(probe, tally):
    """One connection for as long as it lasts; every second request is a POST, which no proxy may send twice."""
    reader = writer = None
    count = 0
    while True:
        try:
            if writer and reader.at_eof():
                tally.closed += 1
                writer.close()
                writer = None
            if not writer:
                reader, writer = await asyncio.wait_for(connect(probe), PATIENCE)
            count += 1
            if count % 2 or probe.get("post"):
                writer.write(request(probe["host"], "POST", "/", 4) + b"body")
            else:
                writer.write(request(probe["host"]))
            status, on, text = await asyncio.wait_for(response(reader), PATIENCE)
            tally.good(text) if status == 200 else tally.bad(f"status {status}")
            if not on:
                tally.closed += 1
                writer.close()
                writer = None
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            tally.bad(error)
            if writer:
                writer.close()
            writer = None
        await asyncio.sleep(probe.get("pace", PACE))


async def upload(probe, tally):
    """50 MB after 50 MB, at 40 MB a second, each on a connection of its own."""
    chunk = bytes(CHUNK)
    while True:
        writer = None
        try:
            reader, writer = await asyncio.wait_for(connect(probe), PATIENCE)
            writer.write(request(probe["host"], "POST", "/upload", UPLOAD))
            begun = time.time()
            for sent in range(0, UPLOAD, CHUNK):
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(max(0, begun + sent / RATE - time.time()))
            status, _, text = await asyncio.wait_for(response(reader), PATIENCE)
            tally.good() if (status, text) == (200, str(UPLOAD)) else tally.bad(f"status {status}, {text[:20]}")
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            tally.bad(error)
            await asyncio.sleep(PACE)
        finally:
            if writer:
                writer.close()


async def events(probe, tally):
    """Server-sent events, one every 50 ms."""
    while True:
        writer = None
        try:
            reader, writer = await asyncio.wait_for(connect(probe), PATIENCE)
            writer.write(request(probe["host"], path="/events"))
            await reader.readuntil(b"\r\n\r\n")
            while (line := await asyncio.wait_for(reader.readline(), 2)) not in (b"", b"0\r\n"):
                if line.startswith(b"data:"):
                    tally.good()
            raise EOFError("the stream ended")
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            tally.bad(error)
            await asyncio.sleep(PACE)
        finally:
            if writer:
                writer.close()


async def websocket(probe, tally):
    """A message every 50 ms, and its echo."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    while True:
        writer = None
        try:
            reader, writer = await asyncio.wait_for(connect(probe), PATIENCE)
            writer.write(request(probe["host"], path="/ws", extra=upgrade))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            if b" 101 " not in head:
                raise ConnectionError(head.split(b"\r\n")[0].decode())
            while True:
                writer.write(b"\x81\x84\0\0\0\0ping")
                if await asyncio.wait_for(reader.readexactly(6), 2) != b"\x81\x04ping":
                    raise ConnectionError("closed by a frame")
                tally.good()
                await asyncio.sleep(0.05)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            tally.bad(error)
            await asyncio.sleep(PACE)
        finally:
            if writer:
                writer.close()


KINDS = {"new": new, "keepalive": keepalive, "http2": http2.probe, "upload": upload, "events": events,
         "websocket": websocket}


async def main():
    probes = [(probe, Tally(probe["name"])) for probe in json.loads(sys.argv[1])]
    tasks = [asyncio.create_task(KINDS[probe["kind"]](probe, tally)) for probe, tally in probes]
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(sys.stdin, lambda: ended.done() or ended.set_result(None))
    await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    told = {tally.name: tally.told() for _, tally in probes}
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    print(json.dumps(told), flush=True)
    os._exit(0)


asyncio.run(main())
