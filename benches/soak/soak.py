#!/usr/bin/env python3
"""Mixed traffic with faults through a release gateway, for a minute: does anything break, leak or hang?

    ./soak.py [--seconds 60] [--binary PATH]

Healthy requests, faulty and dying upstreams, slow and vanishing clients, malformed requests, HTTP/2, WebSockets, event
streams, calls with trailers as gRPC makes them, and a reload every 5 s (route added, route removed, broken file). Exit
status 0 only when at the end the gateway is alive, every request to a healthy route was answered rightly, no broken
answer looked whole, nothing that streams was held back or disturbed by a reload, memory did not grow, the open files
are back at where they began, every log line is JSON, and SIGTERM ends the gateway with 0.
Needs Linux, Python 3.9 and h2load (see ../compare/setup). Loopback only, free ports, files in a temporary folder.
"""
import argparse
import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

import clients
import lasting
from clients import Client, Tally, get
from upstreams import Calls, Upstream, keep_dying
from wire import Broken

HERE = os.path.dirname(os.path.abspath(__file__))
RELOAD_EVERY = 5
# Allocators keep some of what bursts needed; a leak at this traffic is far larger.
RSS_FACTOR, RSS_SLACK_KIB = 1.15, 4096
FD_SLACK = 3
TCP_STATES = {"01": "open", "04": "FIN_WAIT1", "05": "FIN_WAIT2", "08": "CLOSE_WAIT", "09": "LAST_ACK", "0A": "listening"}


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--seconds", type=float, default=60)
    ap.add_argument("--binary", help="this tollgate instead of building one")
    ap.add_argument("--command", help="another proxy, with {port} and {upstream}: no reloads, no log and nothing that lasts are tried on it")
    return ap.parse_args()


def build_tollgate():
    out = subprocess.run(["cargo", "build", "--release", "--message-format=json-render-diagnostics"], cwd=f"{HERE}/../..",
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    made = [json.loads(line).get("executable") for line in out.splitlines() if '"executable":"' in line and '"bin"' in line]
    return next(path for path in made if os.path.basename(path) == "tollgate")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tcp_table():
    """(local port, remote port, state, inode) of every socket of this machine that speaks IPv4."""
    with open("/proc/net/tcp") as f:
        for line in list(f)[1:]:
            fields = line.split()
            yield int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16), fields[3], fields[9]


# ---- the gateway
class Gateway:
    def __init__(self, opts, work, healthy, faulty, dying, calls):
        self.work, self.port, self.admin = work, free_port(), free_port()
        self.config, self.log = f"{work}/tollgate.toml", f"{work}/access.log"
        self.upstreams = {"healthy": healthy.port, "faulty": faulty.port, "dying": dying.port, "calls": calls.port}
        self.reloads = not opts.command
        if opts.command:
            self.argv = [a.format(port=self.port, upstream=healthy.port) for a in shlex.split(opts.command)]
        else:
            self.write_config(toggle=False)
            self.argv = [os.path.abspath(opts.binary or build_tollgate()), "run", "--config", self.config]

    def write_config(self, toggle, broken=False):
        """Written beside and renamed, so that the gateway never sees half a file."""
        text = f"""
[server]
listen = ["127.0.0.1:{self.port}"]
[admin]
listen = "127.0.0.1:{self.admin}"
[log.access]
file = "{self.log}"
"""
        for name, port in self.upstreams.items():
            scheme = "h2c" if name == "calls" else "http"
            text += f'[upstreams.{name}]\nservers = ["{scheme}://127.0.0.1:{port}"]\n'
            text += f'[routes.{name}]\npath = "/{name[0]}/**"\nupstream = "{name}"\n'
        if toggle:
            text += '[routes.toggle]\npath = "/toggle"\nrespond = { status = 200, body = "on" }\n'
        if broken:
            text += '[routes.broken]\nupstream = "nowhere"\n'
        with open(self.config + ".new", "w") as f:
            f.write(text)
        os.rename(self.config + ".new", self.config)

    def start(self):
        with open(f"{self.work}/output", "wb") as out:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.work, start_new_session=True)
        end = time.monotonic() + 15
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the gateway did not start:\n" + self.output()[-1000:])

    def output(self):
        with open(f"{self.work}/output", errors="replace") as f:
            return f.read()

    def alive(self):
        return self.process.poll() is None

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def sockets(self):
        """What each open TCP socket is: its state, and whom it leads to."""
        folder = f"/proc/{self.process.pid}/fd"
        ours = set()
        for name in os.listdir(folder):
            try:
                ours.add(os.readlink(f"{folder}/{name}"))
            except FileNotFoundError:
                pass                                   # closed meanwhile
        peers = {port: f"upstream {name}" for name, port in self.upstreams.items()}
        for local, remote, state, inode in tcp_table():
            if f"socket:[{inode}]" in ours:
                who = "a client" if local == self.port else peers.get(remote, f"port {remote}")
                yield f"{TCP_STATES.get(state, state)}, {who}"

    def terminate(self):
        """The exit status after SIGTERM; None: it had to be killed."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


# ---- what goes on beside the clients
async def keep_reloading(gateway, tally):
    """In turn: a route more, a broken file (nothing may change), a route less."""
    client = Client(gateway.port, tally)
    while True:
        for toggle, broken in ((True, False), (True, True), (False, False)):
            await asyncio.sleep(RELOAD_EVERY)
            gateway.write_config(toggle, broken)
            gateway.process.send_signal(signal.SIGHUP)
            await expect_toggle(client, toggle, "reload of a broken file ignored" if broken else "reload took effect")


async def expect_toggle(client, on, what):
    status = None
    for _ in range(20):
        await asyncio.sleep(0.1)
        try:
            status = (await client.fresh(get("/toggle")))[0]
        except (Broken, OSError, asyncio.TimeoutError) as e:
            status = e
        if (status == 200) == on:
            break
    client.expect(what, (status == 200) == on, f"/toggle gave {status}")


async def watch(gateway, samples):
    begun = time.monotonic()
    while gateway.alive():
        samples.append((time.monotonic() - begun, gateway.rss_kib()))
        await asyncio.sleep(0.25)


# ---- the verdict
def check_memory(samples, seconds, tally):
    def around(a, b):
        return statistics.median([kib for t, kib in samples if a * seconds <= t <= b * seconds] or [0])
    third, end = around(0.3, 0.4), around(0.9, 1.1)
    print(f"RSS: {third / 1024:.1f} MiB after a third, {end / 1024:.1f} MiB at the end")
    if end > third * RSS_FACTOR + RSS_SLACK_KIB:
        tally.problem(f"memory grew from {third:.0f} to {end:.0f} KiB")


async def check_files(gateway, baseline, upstreams, tally):
    """The clients are gone and the upstreams hang up, so every connection has to end.

    They hang up again and again: for as long as the gateway has not noticed that a client left, it may open another
    connection for it, and it keeps that one for half a minute, as it should.
    """
    for _ in range(100):
        for u in upstreams:
            u.hang_up()
        if gateway.files() <= baseline + FD_SLACK:
            break
        await asyncio.sleep(0.2)
    print(f"open files: {baseline} before, {gateway.files()} after")
    if gateway.files() > baseline + FD_SLACK:
        left = Counter(gateway.sockets())
        tally.problem(f"open files went from {baseline} to {gateway.files()}; of these {dict(left)}")


def check_log(gateway, tally):
    lines = good = 0
    with open(gateway.log) as f:
        for lines, line in enumerate(f, 1):
            try:
                good += isinstance(json.loads(line), dict)
            except ValueError:
                pass
    answers = sum(tally.seen[k] for k in ("healthy GET", "healthy POST")) + 1000 * tally.seen["healthy HTTP/2 run of 1000"]
    print(f"access log: {lines} lines")
    if good < lines:
        tally.problem(f"{lines - good} log lines are no JSON objects")
    if lines < answers:
        tally.problem(f"{lines} log lines for {answers} healthy answers alone")


def check_kept_connections(tally):
    """A gateway may close an idle connection just as a request comes; doing so often is a fault."""
    closed = tally.seen["kept connection closed between requests"]
    if closed > 5 + tally.seen["healthy GET"] // 1000:
        tally.problem(f"{closed} kept connections closed between requests")


async def stop(tasks):
    pending = set(tasks)
    while pending:                                     # again, because wait_for loses a cancellation now and then before Python 3.12
        for t in pending:
            t.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.5)
    for t in tasks:
        if not t.cancelled():
            t.result()                                 # raises what went wrong in this script itself


async def traffic(gateway, seconds, dying, tally):
    samples = []
    tasks = clients.start_all(gateway.port, tally)
    tasks += [asyncio.ensure_future(t) for t in (keep_dying(dying), watch(gateway, samples))]
    if gateway.reloads:
        tasks.append(asyncio.ensure_future(keep_reloading(gateway, tally)))
        tasks += lasting.start_all(gateway.port, tally)
    end = time.monotonic() + seconds
    while time.monotonic() < end and gateway.alive():
        await asyncio.sleep(0.2)
    await stop(tasks)
    return samples


async def soak(opts, work):
    tally, upstreams = Tally(), [Upstream(), Upstream(), Upstream(), Calls()]
    for u in upstreams:
        await u.open()
    gateway = Gateway(opts, work, *upstreams)
    gateway.start()
    try:
        await Client(gateway.port, tally).fresh(get("/h/10"))      # whatever opens files at the first request has done so
        baseline = gateway.files()
        samples = await traffic(gateway, opts.seconds, upstreams[2], tally)
        if gateway.alive():
            check_memory(samples, opts.seconds, tally)
            await check_files(gateway, baseline, upstreams, tally)
        else:
            tally.problem(f"the gateway ended by itself with {gateway.process.returncode}")
    finally:
        status = gateway.terminate()
    if status != 0:
        tally.problem(f"exit status after SIGTERM: {'none, it had to be killed' if status is None else status}")
    if gateway.reloads:
        check_log(gateway, tally)
    check_kept_connections(tally)
    if "panicked" in gateway.output():
        tally.problem("a panic, see the output")
    return tally, gateway


def main():
    opts = options()
    if not shutil.which("h2load"):
        sys.exit("h2load is missing: run ../compare/setup")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))        # so that the gateway is ended too
    work = tempfile.mkdtemp(prefix="soak-")
    try:
        tally, gateway = asyncio.run(asyncio.wait_for(soak(opts, work), opts.seconds + 150))    # it ends, whatever happens
        for what, n in sorted(tally.seen.items()):
            print(f"{n:9} {what}")
        for what, n in tally.problems.most_common(30):
            print(f"PROBLEM {n} x {what}")
        if tally.problems:
            print("the end of the gateway's output:\n" + gateway.output()[-2000:])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("soak failed" if tally.problems else "soak passed")
    sys.exit(1 if tally.problems else 0)


if __name__ == "__main__":
    main()
