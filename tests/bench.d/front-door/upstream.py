"""What stands behind the doors: a small service that answers in all the ways that a switch may break.

    upstream.py PORT NAME [IDLE]

It closes a connection that has been idle for IDLE seconds (5, as uvicorn and Node do). At SIGTERM it takes no more, closes
what is idle, and ends when what it answers has been answered, at the latest after half a second.
"""

import asyncio
import base64
import hashlib
import json
import signal
import sys

PORT, NAME = int(sys.argv[1]), sys.argv[2]
IDLE = float(sys.argv[3]) if len(sys.argv) > 3 else 5
CHUNK = 256 * 1024
TICK = 0.05
idle, busy = set(), set()


async def head(reader):
    """Method, path and headers of the next request; None where there's none."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    return method, path, {name.lower(): value.strip() for name, value in pairs}


async def body(reader, headers):
    """How many bytes the request has brought."""
    taken = 0
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readline()).strip(), 16):
            await reader.readexactly(size + 2)
            taken += size
        await reader.readline()
        return taken
    left = int(headers.get("content-length", 0))
    while left:
        data = await reader.read(min(left, CHUNK))
        if not data:
            raise ConnectionError("the body ended early")
        left -= len(data)
        taken += len(data)
    return taken


def answer(writer, text, extra=""):
    data = text.encode()
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data)


async def events(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    count = 0
    while True:
        count += 1
        writer.write(f"data: {NAME} {count}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(TICK)


async def download(writer, size):
    """Slowly, so that it takes longer than a switch."""
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
    while size:
        writer.write(bytes(min(size, CHUNK)))
        size -= min(size, CHUNK)
        await writer.drain()
        await asyncio.sleep(0.02)


async def websocket(reader, writer, headers):
    """Sends back what comes: short frames, as the prober sends them."""
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while True:
        first, length = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length & 127)))
        if first & 15 == 8:
            return
        writer.write(bytes([0x81, len(data)]) + data)
        await writer.drain()


async def one(reader, writer):
    """Whether the connection goes on."""
    method, path, headers = await asyncio.wait_for(head(reader), IDLE)
    idle.discard(writer), busy.add(writer)
    if path == "/events":
        await events(writer)
    elif path == "/ws":
        await websocket(reader, writer, headers)
        return False
    elif path.startswith("/download/"):
        await download(writer, int(path.rsplit("/", 1)[1]))
    else:
        taken = await body(reader, headers)
        text = {"/headers": json.dumps(headers), "/upload": str(taken)}.get(path, NAME)
        answer(writer, text)
    await writer.drain()
    busy.discard(writer), idle.add(writer)
    return headers.get("connection", "").lower() != "close"


async def serve(reader, writer):
    idle.add(writer)
    try:
        while await one(reader, writer):
            pass
    except (asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.CancelledError, OSError):
        pass
    finally:
        idle.discard(writer), busy.discard(writer)
        writer.close()


async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, limit=CHUNK, backlog=1024)
    print("ready", flush=True)
    await stopped.wait()
    server.close()
    for writer in list(idle):
        writer.close()
    for _ in range(25):
        if not busy:
            return
        await asyncio.sleep(0.02)


asyncio.run(main())
