"""The scenarios: which rows each compares, and how it is measured."""
import os
import re
import socket
import time
from dataclasses import dataclass, field, replace

import checks
import measure
import proxies
import tokens
from proxies import FIXED_PATH, Place, Wish

MAIN = ["tollgate", "nginx", "haproxy"]
WITHOUT_LOG = ["nginx-nolog", "haproxy-nolog"]     # for information: what each peer's log costs it


@dataclass
class Scenario:
    title: str
    wish: Wish
    path: str = "/"
    paths: int = 0                 # so many, the path with a number behind it, are asked for in turn; 0: the path itself
    conns: int = 64
    rate: int = 0                  # requests/s of a second run that gives the latencies; 0: they come from the saturating run
    pace: int = 0                  # requests/s of the run that gives the CPU time; 0: as many as there can be
    rows: list = field(default_factory=lambda: MAIN)
    kind: str = "load"             # or "idle", "slow"
    value: str = "cpu_us"          # what ratios and gates are about
    subject: str = "tollgate"
    peers: tuple = ("nginx", "haproxy", "best")
    status: int = 200              # of a right answer
    redis: bool = False            # needs a redis-server
    addresses: bool = False        # each connection comes from an address of its own

    def against_itself(self):
        """Whether all rows are Tollgate, so that differences tell more than ratios."""
        return "plain" in self.rows or "tollgate-memory" in self.rows


def against_plain(what, wish, *more, **others):
    return Scenario(f"Tollgate with {what}, and plain; no access log", wish, rows=["tollgate", "plain", "nginx-plain", *more],
                    peers=("plain",), **others)


SCENARIOS = {
    "plain": Scenario("1 KiB over 64 keep-alive connections", Wish(), rate=4000, rows=MAIN + WITHOUT_LOG),
    "plain-nolog": Scenario("the same, access log off", Wish(log=False), rate=4000),
    "body100k": Scenario("100 KiB bodies over 16 connections", Wish(), "/bytes/102400", conns=16, rate=1000),
    "body1m": Scenario("1 MiB bodies over 16 connections", Wish(), "/bytes/1048576", conns=16),
    "h2": Scenario("HTTP/2 from the client (prior knowledge, h2load -c 4 -m 32), HTTP/1.1 to the upstream", Wish(h2=True),
                   rows=MAIN + WITHOUT_LOG),
    "routes10k": Scenario("Tollgate with 10 routes and with 10,000, no access log", Wish(log=False),
                          rows=["tollgate-10", "tollgate-10k"], subject="tollgate-10k", peers=("tollgate-10",)),
    "micro": Scenario("a short answer made by the proxy itself, no access log", Wish(log=False, fixed=True), FIXED_PATH),
    "gateway": Scenario("JWT, role, limit per caller, access log, request id, metrics; 64 callers", Wish(auth=True, limit="caller"),
                        rate=4000, rows=["tollgate", "haproxy", "haproxy-nolog"], peers=("haproxy",)),
    "cache1k": Scenario("hits of 1 KiB", Wish(cache=True), "/cache/1024", rate=4000, rows=MAIN + WITHOUT_LOG),
    "cache100k": Scenario("hits of 100 KiB", Wish(cache=True), "/cache/102400", rate=1000, rows=MAIN + WITHOUT_LOG),
    "refuse429": Scenario("429 by a limit per client address, no access log", Wish(log=False, limit="refuse"), status=429,
                          rows=MAIN + ["nginx-noid", "haproxy-noid"]),
    "auth": against_plain("JWT and role with remembered tokens", Wish(log=False, auth=True)),
    "limit": against_plain("a limit in memory that refuses nobody", Wish(log=False, limit="address"), "tollgate-nofields"),
    "limit-redis": against_plain("a limit in Redis, asked for each request", Wish(log=False, limit="redis"), redis=True, pace=8000),
    "limit-redis-busy": against_plain("the same as fast as it goes", Wish(log=False, limit="redis"), redis=True),
    "limit-lease": against_plain("a limit in Redis, 50 taken at a time, 64 clients", Wish(log=False, limit="lease"), redis=True, addresses=True),
    "limit-lease-hot": against_plain("a limit in Redis, 50 taken at a time, one client", Wish(log=False, limit="lease"), redis=True),
    "cache-redis": Scenario("hits of 1 KiB out of Redis alone, and out of memory, of 10,000 URLs in turn; no access log",
                            Wish(log=False, cache=True, store="redis"), "/cache/1024/", paths=10000,
                            rows=["tollgate", "tollgate-memory"], peers=("tollgate-memory",), redis=True),
    "idle": Scenario("idle keep-alive connections, each after one answer", Wish(log=False), kind="idle", value="bytes_per_conn"),
    "slow": Scenario("20 slow readers of a 16 MiB body each", Wish(log=False), kind="slow", value="growth_kib"),
}


SUFFIXES = {
    "-nolog": {"log": False},
    "-noid": {"request_id": False},
    "-nofields": {"limit_fields": False},
    "-memory": {"store": "memory"},
    "-10": {"routes": 10},
    "-10k": {"routes": 10000},
}


def variant(name, wish):
    """(proxy, wish) of a row by its name."""
    if name in ("plain", "nginx-plain"):
        return name.removesuffix("plain").rstrip("-") or "tollgate", Wish(log=wish.log)
    for suffix, change in SUFFIXES.items():
        if name.endswith(suffix) and name[:-len(suffix)] in MAIN:
            return name[:-len(suffix)], replace(wish, **change)
    return name, wish


class Row:
    """One proxy in one scenario."""

    def __init__(self, name, scenario, opts):
        self.name, self.opts, self.process = name, opts, None
        self.runs, self.paced, self.bad = [], [], ""
        self.path, self.paths, self.h2 = scenario.path, scenario.paths, scenario.wish.h2
        base, self.wish = variant(name, scenario.wish)
        if self.wish.routes > 1:
            self.path = f"/r/{self.wish.routes // 2}/x"
        folder = f"{opts.work}/{opts.scenario}-{name}"
        os.makedirs(folder)
        self.place = Place(folder, measure.free_port(), measure.free_port(), opts.upstream, opts.redis)
        self.spec = self.make_spec(base, self.wish)
        # every row of the scenario gets the token, one that does not look at it too: its bytes are no cost of looking
        self.headers = tokens.bearer("caller-0") if scenario.wish.auth else {}
        self.header_file = tokens.header_file(f"{folder}/headers") if scenario.wish.auth else ""

    def make_spec(self, base, wish):
        if base in self.opts.others:
            return proxies.other(self.place, wish, self.opts.others[base])
        if base == "tollgate":
            return proxies.tollgate(self.place, wish, self.opts.binary)
        return {"nginx": proxies.nginx, "haproxy": proxies.haproxy}[base](self.place, wish)

    def up(self):
        self.process = measure.start(self.spec.argv, measure.PROXY_CPU, self.place.folder, self.spec.stdout, self.spec.env)
        if not measure.wait_for_port(self.place.port, self.process):
            with open(f"{self.place.folder}/stderr.log") as f:
                raise RuntimeError("did not start: " + (" | ".join(f.read().split("\n"))[-400:].strip() or "its port never opened"))
        time.sleep(0.3)                                # nginx's worker comes after its port

    def down(self):
        if self.process:
            measure.stop(self.process)
            self.process = None

    def pids(self):
        return measure.tree(self.process.pid)


# ---- load
def one_run(row, scenario, seconds, rate=0):
    reached = checks.asked(row)
    busy = measure.cpu_busy_seconds(measure.PROXY_CPU)
    t = time.monotonic()
    if scenario.wish.h2:
        r = measure.h2load(row.place.port, row.path, row.pids(), seconds)
    else:
        r = measure.lgen(f"{row.opts.work}/lgen", row.place.port, row.path, row.pids(), scenario.conns, seconds, rate,
                         row.header_file, row.paths, scenario.addresses)
    took = time.monotonic() - t
    good = r["status"].get(str(scenario.status), 0)
    assert good and good >= 0.999 * sum(r["status"].values()), f"answers were {r['status']}"
    reached = checks.asked(row) - reached
    assert not (row.wish.cache or row.wish.limit == "refuse") or reached <= 0.001 * r["answered"], f"{reached} requests reached the upstream"
    r["cpu_us"] = r["cpu_ns"] / 1e3 / r["completed"]
    r["rps"] = r["completed"] / r["secs"]
    r["core_pct"] = r["cpu_ns"] / 1e7 / r["secs"]
    r["others_pct"] = 100 * (measure.cpu_busy_seconds(measure.PROXY_CPU) - busy) / took - r["core_pct"]
    if row.spec.log:
        r["log_lines"] = checks.check_log(row, r["answered"])
    return r


def run_load(rows, scenario, opts):
    for row in rows:
        row.peak_rss_kib = 0
    for i in range(opts.rounds):
        if i == 0 or opts.restart_every and i % opts.restart_every == 0:
            stop_all(rows)
            start_all(rows)
        for row in turn(rows, i):
            guarded(row, lambda: row.runs.append(one_run(row, scenario, opts.secs, scenario.pace)))
            if scenario.rate:
                guarded(row, lambda: row.paced.append(one_run(row, scenario, opts.secs, scenario.rate)))
    stop_all(rows)


def start_all(rows):
    for row in rows:
        guarded(row, lambda: (row.up(), checks.check(row)))
    time.sleep(1.5)                                    # let the lines of the checks reach the logs, then drop them
    for row in rows:
        if row.spec.log:
            guarded(row, lambda: os.truncate(row.spec.log, 0))


def stop_all(rows):
    for row in rows:
        if row.process and not row.bad:
            row.peak_rss_kib = max(row.peak_rss_kib, measure.peak_rss_kib(row.pids()))
        row.down()


def turn(rows, i):
    """Another row goes first each round, and every second round runs backwards: nobody always follows the same neighbour."""
    k = i % len(rows)
    order = rows[k:] + rows[:k]
    return order[::-1] if i % 2 else order


def guarded(row, step):
    """Runs a step of a row that is still good; whatever goes wrong costs the row its figures, not the run."""
    if row.bad:
        return
    try:
        step()
    except Exception as e:
        text = str(e) if isinstance(e, (AssertionError, RuntimeError)) else f"{type(e).__name__}: {e}"
        row.bad = text.replace(row.opts.work + "/", "")
        row.down()


# ---- memory
def ask(s, path="/"):
    """One answer over an open socket."""
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.test\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += some(s)
    head, body = data.split(b"\r\n\r\n", 1)
    left = int(re.search(rb"(?i)content-length: *(\d+)", head)[1]) - len(body)
    while left > 0:
        left -= len(some(s))


def some(s, n=65536):
    data = s.recv(n)
    if not data:
        raise OSError("the proxy closed a connection")
    return data


def connect(row):
    return socket.create_connection(("127.0.0.1", row.place.port), 5)


def warm_up(row):
    """100 connections x 20 requests, so that what grows once has grown."""
    socks = [connect(row) for _ in range(100)]
    for _ in range(20):
        for s in socks:
            ask(s)
    for s in socks:
        s.close()
    time.sleep(1)


def idle_run(row, opts):
    warm_up(row)
    pids, n = row.pids(), opts.idle_conns
    before, cpu = measure.memory_kib(pids), measure.cpu_ns(pids)
    socks = []
    for _ in range(n):
        socks.append(connect(row))
        ask(socks[-1])
    cpu = measure.cpu_ns(pids) - cpu
    time.sleep(3)
    full, idle_cpu = measure.memory_kib(pids), measure.cpu_ns(pids)
    time.sleep(2)
    idle_cpu = measure.cpu_ns(pids) - idle_cpu
    for s in socks[::25]:
        ask(s)                                         # they must still be there
    for s in socks:
        s.close()
    time.sleep(2)
    return {"bytes_per_conn": (full["rss"] - before["rss"]) * 1024 / n, "pss_per_conn": (full["pss"] - before["pss"]) * 1024 / n,
            "before_kib": before["rss"], "full_kib": full["rss"], "after_kib": measure.memory_kib(pids)["rss"],
            "cpu_us_per_conn": cpu / 1e3 / n, "idle_cpu_ms_per_s": idle_cpu / 2e6}


SLOW_READERS, SLOW_BYTES = 20, 16 << 20


def slow_run(row, opts):
    warm_up(row)
    pids = row.pids()
    before, peak = measure.memory_kib(pids)["rss"], 0
    socks, got = [], []
    for _ in range(SLOW_READERS):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.settimeout(10)
        s.connect(("127.0.0.1", row.place.port))
        s.sendall(f"GET /bytes/{SLOW_BYTES} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n".encode())
        socks.append(s)
        got.append(0)
    end = time.monotonic() + opts.slow_secs
    while time.monotonic() < end:                      # about 320 KB/s each, far from done when the time is up
        for i, s in enumerate(socks):
            got[i] += len(some(s, 32768))
        peak = max(peak, measure.memory_kib(pids)["rss"])
        time.sleep(0.1)
    drain(socks, got)
    time.sleep(1)
    return {"growth_kib": max(1, peak - before), "before_kib": before, "full_kib": peak, "after_kib": measure.memory_kib(pids)["rss"]}


def drain(socks, got):
    """The rest of every body must still come, and no byte more or less."""
    for i, s in enumerate(socks):
        for data in iter(lambda: s.recv(1 << 20), b""):
            got[i] += len(data)
        s.close()
        head = got[i] - SLOW_BYTES
        assert 0 < head < 2048, f"a slow reader got {got[i]} bytes"


def run_memory(rows, scenario, opts):
    """A fresh process for each figure; three rounds are enough, since memory hardly varies."""
    one = {"idle": idle_run, "slow": slow_run}[scenario.kind]
    for i in range(min(opts.rounds, 3)):
        for row in rows:
            guarded(row, lambda: (row.up(), checks.check(row), row.runs.append(one(row, opts)), row.down()))
