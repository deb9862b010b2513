"""The upstreams of the soak: a healthy one, one that does everything wrong, one that keeps dying, and one for calls."""
import asyncio
import zlib

import frames
import websocket
from wire import Broken, exactly, pattern, read_message

EVENTS = {}                  # by the number of a stream: how many more events its client is ready for
PATIENCE = 20                # seconds that a client may take to get ready


def answer(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def healthy_answer(method, path, body):
    """/h/N: N bytes. A POST gets the length and checksum of what arrived."""
    if method == "POST":
        return answer(f"{len(body)} {zlib.crc32(body)}".encode())
    size = path.rsplit("/", 1)[1]
    return answer(pattern(int(size))) if size.isdigit() else answer(b"", "404 Not Found")


# What a faulty upstream says before it breaks off, by the last part of the path; None: nothing.
# None of these is a whole answer, so no client may ever take one for whole.
FAULTS = {
    "close": None,
    "reset": None,
    "stall": None,
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "half-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "early": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + pattern(1000),
    "bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    "early-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "early-reset": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + pattern(1000),
}


class Upstream:
    """One listening port. Paths below /f/ break, all others are answered."""

    def __init__(self):
        self.server, self.port, self.writers = None, 0, set()

    async def open(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def hang_up(self):
        for w in list(self.writers):
            w.transport.abort()

    def close(self):
        self.server.close()
        self.hang_up()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while await self.one(reader, writer):
                pass
        except (Broken, ConnectionError, asyncio.CancelledError):
            pass                                       # a client that went away, passed on by the gateway; or the end of the soak
        finally:
            self.writers.discard(writer)
            writer.close()

    async def one(self, reader, writer):
        """Answers one request; False: the connection is at its end."""
        first, headers, body = await read_message(reader, False)
        method, path, _ = first.split(" ")
        if path == "/h/ws":
            await echo_messages(headers, reader, writer)
            return False
        if path.startswith("/h/events/"):
            await send_events(path, writer)
            return True
        if path.startswith("/f/"):
            await self.fail(path.rsplit("/", 1)[1], writer)
            return False
        writer.write(healthy_answer(method, path, body))
        await writer.drain()
        return True

    async def fail(self, fault, writer):
        if FAULTS.get(fault):
            writer.write(FAULTS[fault])
            await writer.drain()
        if fault == "stall":
            await asyncio.sleep(2)
        if fault.endswith("reset"):
            await asyncio.sleep(0.02)                  # let what was written go first
            writer.transport.abort()


async def echo_messages(headers, reader, writer):
    accept = websocket.accept(headers.get("sec-websocket-key", ""))
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode())
    opcode = None
    while opcode != websocket.CLOSE:
        opcode, payload = await websocket.read_message(reader)
        writer.write(websocket.message(opcode, payload, masked=False))
        await writer.drain()


def event(n):
    return b"id: %d\ndata: event %d of the soak\n\n" % (n, n)


async def send_events(path, writer):
    """/h/events/STREAM/COUNT: an event whenever the client is ready for one, and the end likewise."""
    number, count = (int(part) for part in path.split("/")[3:])
    ready = EVENTS.get(number)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    parts = [b"%x\r\n%s\r\n" % (len(event(n)), event(n)) for n in range(count)] + [b"0\r\n\r\n"]
    for part in parts:
        await writer.drain()
        await its_turn(ready)
        writer.write(part)
    await writer.drain()


async def its_turn(ready):
    if ready is None:
        raise Broken("the client of the events left")
    try:
        await asyncio.wait_for(ready.acquire(), PATIENCE)
    except asyncio.TimeoutError:
        raise Broken("the client of the events left")


class Calls(Upstream):
    """Speaks HTTP/2 and says every message of every call back, as a gRPC service might; `!` resets its call."""

    async def one(self, reader, writer):
        await exactly(reader, len(frames.PREFACE))
        writer.write(frames.settings((frames.MAX_CONCURRENT_STREAMS, 100)))
        kind = None
        while kind != frames.GOAWAY:
            kind, flags, stream, payload = await frames.read_frame(reader, writer)
            for part in self.answers(kind, flags, payload):
                writer.write(frames.frame(*part[:2], stream, part[2]))
            await writer.drain()
        return False

    def answers(self, kind, flags, payload):
        """What a frame of a call is answered with: (kind, flags, payload) of each frame."""
        if kind == frames.HEADERS:
            head = frames.STATUS_200 + frames.fields(("content-type", "application/grpc"))
            yield frames.HEADERS, frames.END_HEADERS, head
        if kind == frames.DATA and payload == b"!":
            yield frames.RST_STREAM, 0, frames.INTERNAL_ERROR.to_bytes(4, "big")
            return
        if kind == frames.DATA and payload:
            yield frames.DATA, 0, payload
        if kind in (frames.HEADERS, frames.DATA) and flags & frames.END_STREAM:
            yield frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, frames.fields(("grpc-status", "0"))


async def keep_dying(upstream):
    """Open for a while, then gone with all its connections, and again, on the same port."""
    while True:
        await asyncio.sleep(1.5)
        upstream.close()
        await asyncio.sleep(1.0)
        await upstream.open()
