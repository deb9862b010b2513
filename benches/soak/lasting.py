"""The clients of what lasts: WebSockets, event streams, and calls as gRPC makes them. Reloads must not disturb them."""
import asyncio
import itertools
import random

import frames
import websocket
from clients import PATIENCE, Client, get
from upstreams import EVENTS, event
from wire import pattern, read_chunk, read_head

CALL = ((":method", "POST"), (":scheme", "http"), (":path", "/c/soak.Echo/Say"), (":authority", "soak.test"),
        ("content-type", "application/grpc"), ("te", "trailers"))
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n"


class Lasting(Client):
    numbers = itertools.count()

    def leaves(self, writer, what):
        """Some clients are gone in the middle; nothing is owed to them."""
        if random.random() > 0.1:
            return False
        writer.transport.abort()
        self.tally.ok(f"{what} left early")
        return True

    # ---- WebSocket: every message comes back before the next one goes
    async def web_socket(self):
        reader, writer = await self.connect()
        try:
            key = websocket.new_key()
            writer.write(get("/h/ws", UPGRADE.format(key)))
            first, headers = await asyncio.wait_for(read_head(reader), PATIENCE)
            accepted = headers.get("sec-websocket-accept") == websocket.accept(key)
            self.expect("WebSocket opened", first.startswith("HTTP/1.1 101 ") and accepted, f"{first} {headers}")
            for _ in range(random.randint(1, 40)):
                await self.echo(reader, writer)
                await asyncio.sleep(random.uniform(0, 0.3))
            if self.leaves(writer, "WebSocket"):
                return
            writer.write(websocket.message(websocket.CLOSE, b"", masked=True))
            opcode, _ = await asyncio.wait_for(websocket.read_message(reader), PATIENCE)
            rest = await asyncio.wait_for(reader.read(), PATIENCE)
            self.expect("WebSocket closed", opcode == websocket.CLOSE and rest == b"", f"{opcode}, {len(rest)} bytes")
        finally:
            writer.close()

    async def echo(self, reader, writer):
        sent = pattern(random.choice([0, 1, 125, 126, 5000, 60000]))
        writer.write(websocket.message(websocket.BINARY, sent, masked=True))
        opcode, got = await asyncio.wait_for(websocket.read_message(reader), PATIENCE)
        self.expect("WebSocket echo", (opcode, got) == (websocket.BINARY, sent), f"{opcode}, {len(got)} of {len(sent)} bytes")

    # ---- events: the upstream sends one when the client has the one before, so whoever holds one back hangs
    async def events(self):
        number, count = next(self.numbers), random.randint(1, 20)
        reader, writer = await self.connect()
        ready = EVENTS[number] = asyncio.Semaphore(0)
        try:
            writer.write(get(f"/h/events/{number}/{count}"))
            first, _ = await asyncio.wait_for(read_head(reader), PATIENCE)
            self.expect("event stream opened", first.startswith("HTTP/1.1 200 "), first)
            for n in range(count):
                ready.release()
                got = await asyncio.wait_for(self.one_event(reader, n), PATIENCE)
                self.expect("event", got == event(n), got[:40])
                await asyncio.sleep(random.uniform(0, 0.2))
                if self.leaves(writer, "event stream"):
                    return
            ready.release()
            last = await asyncio.wait_for(read_chunk(reader), PATIENCE)
            self.expect("event stream ended", last == b"", last[:40])
        finally:
            del EVENTS[number]
            writer.close()

    async def one_event(self, reader, n):
        got = b""
        while len(got) < len(event(n)):
            chunk = await read_chunk(reader)
            if not chunk:
                break
            got += chunk
        return got

    # ---- calls: a connection with some of them, one after the other
    async def calls(self):
        reader, writer = await self.connect()
        try:
            # Without a table the gateway spells each field out, which is all that can be read here.
            writer.write(frames.PREFACE + frames.settings((frames.HEADER_TABLE_SIZE, 0)))
            for stream in range(1, 2 * random.randint(1, 6), 2):
                call = frames.Call(reader, writer, stream)
                step = self.call if random.random() < 0.9 else self.broken_call
                if not await asyncio.wait_for(step(call), PATIENCE):
                    return
        finally:
            writer.close()

    async def call(self, call):
        """Messages both ways, each back before the next one goes; then the status, in trailers. False: the client left."""
        await self.begin(call)
        for _ in range(random.randint(1, 5)):
            sent = pattern(random.choice([1, 100, 2000]))
            call.send(sent)
            got = await call.data(len(sent))
            self.expect("call's message", got == sent, f"{len(got)} of {len(sent)} bytes")
            await asyncio.sleep(random.uniform(0, 0.1))
            if self.leaves(call.writer, "call"):
                return False
        call.end()
        kind, flags, block = await call.next()
        ended = kind == frames.HEADERS and flags & frames.END_STREAM and frames.is_ok(block)
        self.expect("call's status", ended, f"frame {kind} with {block!r}")
        return True

    async def broken_call(self, call):
        """The upstream resets it behind the head: no status may come, and no whole answer."""
        await self.begin(call)
        call.send(b"!")
        kind, _, payload = await call.next()
        self.expect("upstream fault shown in a call", kind == frames.RST_STREAM, f"frame {kind} with {payload!r}")
        return True

    async def begin(self, call):
        call.begin(*CALL)
        kind, _, block = await call.next()
        self.expect("call's head", kind == frames.HEADERS and frames.STATUS_200 in block, f"frame {kind} with {block!r}")


def start_all(port, tally):
    c = Lasting(port, tally)
    crowd = [(c.web_socket, 4, 0.1), (c.events, 4, 0.1), (c.calls, 4, 0.1)]
    return [asyncio.ensure_future(c.forever(step, pause)) for step, n, pause in crowd for _ in range(n)]
