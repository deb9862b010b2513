"""The clients of the soak. Each runs until it is cancelled and tells the tally what it saw."""
import asyncio
import random
import re
import socket
import zlib
from collections import Counter

from upstreams import FAULTS
from wire import Broken, pattern, read_response

PATIENCE = 20                # seconds after which an answer counts as hung


class Tally:
    def __init__(self):
        self.seen, self.problems = Counter(), Counter()

    def ok(self, what, n=1):
        self.seen[what] += n

    def problem(self, what):
        self.problems[what] += 1


class Client:
    def __init__(self, port, tally):
        self.port, self.tally = port, tally

    # ---- plumbing
    async def connect(self, receive_buffer=0):
        s = socket.socket()
        s.setblocking(False)
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(s, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=s, limit=65536)

    async def fresh(self, raw):
        """Sends raw bytes on a new connection: (status, body)."""
        reader, writer = await self.connect()
        try:
            writer.write(raw)
            status, _, body = await asyncio.wait_for(read_response(reader), PATIENCE)
            return status, body
        finally:
            writer.transport.abort()

    async def forever(self, step, pause):
        """Runs a step again and again. What it lets out is a problem: it should have expected it."""
        while True:
            try:
                await step()
            except asyncio.TimeoutError:
                self.tally.problem(f"{step.__name__}: hung")
            except (Broken, OSError) as e:
                self.tally.problem(f"{step.__name__}: {type(e).__name__}: {e}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    def expect(self, what, condition, found):
        self.tally.ok(what) if condition else self.tally.problem(f"{what}: {found}")

    # ---- healthy routes: every request must be answered, whatever the others do
    async def keep_alive(self):
        reader, writer = await self.connect()
        try:
            for i in range(random.randint(1, 100)):
                n = random.choice([0, 10, 1024, 1024, 20000])
                writer.write(get(f"/h/{n}"))
                try:
                    status, headers, body = await asyncio.wait_for(read_response(reader), PATIENCE)
                except Broken as e:
                    if i == 0 or not e.untouched:
                        raise
                    self.tally.ok("kept connection closed between requests")   # allowed, but see soak.py
                    return
                self.expect("healthy GET", status == 200 and body == pattern(n), f"{status}, {len(body)} of {n} bytes")
                if headers.get("connection", "").lower() == "close":
                    return
                await asyncio.sleep(0.005)
        finally:
            writer.close()

    async def upload(self):
        body = pattern(random.choice([0, 1, 5000, 300000]))
        head = b"POST /h/upload HTTP/1.1\r\nHost: soak.test\r\n"
        if random.random() < 0.5:
            raw = head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        else:
            raw = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(body)
        status, told = await self.fresh(raw)
        self.expect("healthy POST", status == 200 and told == f"{len(body)} {zlib.crc32(body)}".encode(), f"{status} {told[:40]!r}")

    async def slow_reader(self):
        """2 MiB in about 3 s, through a small receive buffer."""
        reader, writer = await self.connect(receive_buffer=16384)
        writer.write(get(f"/h/{2 << 20}", "Connection: close\r\n"))
        got = b""
        try:
            while data := await asyncio.wait_for(reader.read(32768), PATIENCE):
                got += data
                await asyncio.sleep(0.04)
        finally:
            writer.close()
        self.expect("slow reader", got.endswith(b"\r\n\r\n" + pattern(2 << 20)), f"{len(got)} bytes")

    async def slow_sender(self):
        """A head that takes a second to arrive is slow, not wrong."""
        reader, writer = await self.connect()
        try:
            for part in (b"GET /h/10 HT", b"TP/1.1\r\nHo", b"st: soak.test\r", b"\n\r", b"\n"):
                writer.write(part)
                await asyncio.sleep(0.2)
            status, _, _ = await asyncio.wait_for(read_response(reader), PATIENCE)
            self.expect("slow sender", status == 200, status)
        finally:
            writer.close()

    # ---- clients that misbehave: nothing is owed to them
    async def quitter(self):
        """Leaves with a reset: in the answer, in its own upload, or in its own head."""
        reader, writer = await self.connect()
        raw = random.choice([get(f"/h/{2 << 20}"), b"GET /h/10 HTTP/1.1\r\nHos", get("/f/stall"),
                             b"POST /h/upload HTTP/1.1\r\nHost: soak.test\r\nContent-Length: 1000000\r\n\r\n" + pattern(100000)])
        writer.write(raw)
        await asyncio.sleep(random.uniform(0, 0.3))
        writer.transport.abort()
        self.tally.ok("client left early")

    async def malformed(self):
        raw = random.choice(MALFORMED)
        try:
            status, _ = await self.fresh(raw)
        except (Broken, ConnectionError):
            status = 400                               # closing without an answer is a refusal too
        self.expect("malformed request refused", status >= 400, f"answered {status} to {raw[:70]!r}")

    # ---- faulty upstreams: an error or a visibly broken answer, never a whole one
    async def faulty(self):
        fault = random.choice(list(FAULTS))
        try:
            status, _ = await self.fresh(get(f"/f/{fault}"))
        except Broken:
            status = 502                               # the answer broke off, as the upstream's did
        self.expect("upstream fault shown", 500 <= status < 600, f"{fault}: a whole answer with {status}")

    async def dying(self):
        try:
            status, _ = await self.fresh(get("/d/1000"))
        except Broken:
            status = 502
        self.expect("dying upstream", status == 200 or 500 <= status < 600, status)

    # ---- HTTP/2
    async def h2load(self, path, n, *more):
        p = await asyncio.create_subprocess_exec("h2load", "-t1", "-c2", "-m10", f"-n{n}", *more, f"http://127.0.0.1:{self.port}{path}",
                                                 stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
        try:
            out, _ = await asyncio.wait_for(p.communicate(), 2 * PATIENCE)
        finally:
            if p.returncode is None:
                p.kill()
        return int((re.findall(rb"status codes: (\d+) 2xx", out) or [0])[0])

    async def h2(self):
        good = await self.h2load("/h/1024", 1000)
        self.expect("healthy HTTP/2 run of 1000", good == 1000, f"{good} good answers")

    async def h2_faulty(self):
        good = await self.h2load(random.choice(["/f/reset", "/f/close", "/f/garbage"]), 20)
        self.expect("upstream fault shown over HTTP/2", good == 0, f"{good} good answers")

    async def h2_quitter(self):
        try:
            await asyncio.wait_for(self.h2load(f"/h/{2 << 20}", 1000), 0.3)
        except asyncio.TimeoutError:
            self.tally.ok("HTTP/2 client left early")


def get(path, more=""):
    return f"GET {path} HTTP/1.1\r\nHost: soak.test\r\n{more}\r\n".encode()


def chunks(body, size=7000):
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n",     # TLS on a plain port
    b"GET /h/10 HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET /h/10 HTTP/1.1\r\nHo st: a\r\n\r\n",
    b"GET /h/10 HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    b"GET /h/10 HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300000 + b"\r\n\r\n",
    b"POST /h/10 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /h/10 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /h/10 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
]


def start_all(port, tally):
    """Every kind of client as a task; the numbers are how many at once and the pause between two steps."""
    c = Client(port, tally)
    crowd = [(c.keep_alive, 8, 0.02), (c.upload, 2, 0.05), (c.slow_reader, 3, 0.1), (c.slow_sender, 2, 0.1), (c.quitter, 3, 0.05),
             (c.malformed, 2, 0.1), (c.faulty, 6, 0.02), (c.dying, 3, 0.02), (c.h2, 1, 0.5), (c.h2_faulty, 1, 1), (c.h2_quitter, 1, 1)]
    return [asyncio.ensure_future(c.forever(step, pause)) for step, n, pause in crowd for _ in range(n)]
