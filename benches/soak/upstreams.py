"""The upstreams of the soak: a healthy one, one that does everything wrong, and one that keeps dying."""
import asyncio
import zlib

from wire import Broken, pattern, read_message


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
        first, _, body = await read_message(reader, False)
        method, path, _ = first.split(" ")
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


async def keep_dying(upstream):
    """Open for a while, then gone with all its connections, and again, on the same port."""
    while True:
        await asyncio.sleep(1.5)
        upstream.close()
        await asyncio.sleep(1.0)
        await upstream.open()
