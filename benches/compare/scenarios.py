"""The scenarios: which rows each compares, what is checked before it counts, and how it is measured."""
import http.client
import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass, field, replace

import measure
import proxies
from proxies import FIXED_BODY, FIXED_PATH, Place, Wish

PATTERN = b"abcdefghijklmnopqrstuvwxyz012345"      # what upstream.c repeats
MAIN = ["tollgate", "nginx", "haproxy"]
WITHOUT_LOG = ["nginx-nolog", "haproxy-nolog"]     # for information: what each peer's log costs it


@dataclass
class Scenario:
    title: str
    wish: Wish
    path: str = "/"
    conns: int = 64
    rate: int = 0                  # requests/s of a second run that gives the latencies; 0: they come from the saturating run
    rows: list = field(default_factory=lambda: MAIN)
    kind: str = "load"             # or "idle", "slow"
    value: str = "cpu_us"          # what ratios and gates are about
    subject: str = "tollgate"
    peers: tuple = ("nginx", "haproxy", "best")


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
    "idle": Scenario("idle keep-alive connections, each after one answer", Wish(log=False), kind="idle", value="bytes_per_conn"),
    "slow": Scenario("20 slow readers of a 16 MiB body each", Wish(log=False), kind="slow", value="growth_kib"),
}


class Row:
    """One proxy in one scenario."""

    def __init__(self, name, scenario, opts):
        self.name, self.opts, self.process = name, opts, None
        self.runs, self.paced, self.bad = [], [], ""
        wish, base = scenario.wish, name
        self.path, self.h2 = scenario.path, scenario.wish.h2
        if name.endswith("-nolog"):
            base, wish = name[:-len("-nolog")], replace(wish, log=False)
        if name.startswith("tollgate-1"):
            base, wish = "tollgate", replace(wish, routes=10000 if name.endswith("k") else 10)
            self.path = f"/r/{wish.routes // 2}/x"
        folder = f"{opts.work}/{opts.scenario}-{name}"
        os.makedirs(folder)
        self.place = Place(folder, measure.free_port(), measure.free_port(), opts.upstream)
        self.spec = self.make_spec(base, wish)

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


# ---- checks: a row is only worth a figure when its answers are right
def pattern(n):
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


def fetch(row, path):
    """(status, headers, body) of one GET."""
    if row.h2:
        return fetch_h2(row, path)
    c = http.client.HTTPConnection("127.0.0.1", row.place.port, timeout=5)
    try:
        c.request("GET", path, headers={"Host": "bench.test"})
        r = c.getresponse()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
    finally:
        c.close()


def fetch_h2(row, path):
    url = f"http://127.0.0.1:{row.place.port}{path}"
    body = subprocess.run(["nghttp", url], capture_output=True, timeout=10).stdout
    told = subprocess.run(["nghttp", "-nv", url], capture_output=True, text=True, timeout=10).stdout
    headers = dict(re.findall(r"recv \(stream_id=\d+\) (:?[\w-]+): (.*)", told))
    return int(headers.get(":status", 0)), headers, body


def check(row):
    check_body(row)
    if row.spec.request_id:
        check_request_id(row)
    if row.spec.metrics:
        c = http.client.HTTPConnection("127.0.0.1", row.place.metrics_port, timeout=5)
        c.request("GET", row.spec.metrics)
        assert c.getresponse().status == 200, "no metrics"
        c.close()


def check_body(row):
    status, _, body = fetch(row, row.path)
    want = FIXED_BODY.encode() if row.path == FIXED_PATH else pattern(int((re.findall(r"/bytes/(\d+)", row.path) or [1024])[0]))
    assert status == 200 and body == want, f"GET {row.path} gave {status} and {len(body)} bytes, not 200 and the right {len(want)}"


def check_request_id(row):
    _, headers, body = fetch(row, "/echo")
    sent = re.search(rb"(?i)\r\nx-request-id: *(\S+)", body)
    assert sent, "no X-Request-Id to the upstream"
    assert headers.get("x-request-id"), "no X-Request-Id to the client"
    # over HTTP/2 these are two requests (see fetch_h2)
    assert row.h2 or headers["x-request-id"] == sent[1].decode(), "the client and the upstream saw different request ids"
    assert fetch(row, row.path)[1].get("x-request-id") != headers["x-request-id"], "the request id repeats"


def read_log(path):
    """(number of lines, first line). HAProxy takes O_APPEND off its standard output, so once emptied its file begins
    with a hole: hence the search for the first data."""
    with open(path, "rb", buffering=0) as f:
        try:
            f.seek(0, os.SEEK_DATA)
        except OSError:
            return 0, b""
        first = f.read(8192).lstrip(b"\0")
        n = first.count(b"\n")
        for block in iter(lambda: f.read(1 << 20), b""):
            n += block.count(b"\n")
    return n, first.split(b"\n")[0]


def check_log(row, answered):
    """There must be a line for every answer; then the log is emptied for the next run."""
    slack = 300 + answered // 100                      # requests that were under way when the run ended
    end = time.monotonic() + 5                         # nginx flushes once a second
    lines, first = read_log(row.spec.log)
    while lines < answered and time.monotonic() < end:
        time.sleep(0.2)
        lines, first = read_log(row.spec.log)
    assert abs(lines - answered) <= slack, f"{lines} log lines for {answered} answers"
    assert isinstance(json.loads(first), dict), "a log line is no JSON object"
    os.truncate(row.spec.log, 0)
    return lines


# ---- load
def one_run(row, scenario, seconds, rate=0):
    busy = measure.cpu_busy_seconds(measure.PROXY_CPU)
    t = time.monotonic()
    if scenario.wish.h2:
        r = measure.h2load(row.place.port, row.path, row.pids(), seconds)
    else:
        r = measure.lgen(f"{row.opts.work}/lgen", row.place.port, row.path, row.pids(), scenario.conns, seconds, rate)
    took = time.monotonic() - t
    good = r["status"].get("200", 0)
    assert good and good >= 0.999 * sum(r["status"].values()), f"answers were {r['status']}"
    r["cpu_us"] = r["cpu_ns"] / 1e3 / r["completed"]
    r["rps"] = r["completed"] / r["secs"]
    r["core_pct"] = r["cpu_ns"] / 1e7 / r["secs"]
    r["others_pct"] = 100 * (measure.cpu_busy_seconds(measure.PROXY_CPU) - busy) / took - r["core_pct"]
    if row.spec.log:
        r["log_lines"] = check_log(row, r["answered"])
    return r


def run_load(rows, scenario, opts):
    for row in rows:
        guarded(row, lambda: (row.up(), check(row)))
    time.sleep(1.5)                                    # let the lines of the checks reach the logs, then drop them
    for row in rows:
        if row.spec.log and not row.bad:
            guarded(row, lambda: os.truncate(row.spec.log, 0))
    for i in range(opts.rounds):
        for row in turn(rows, i):
            guarded(row, lambda: row.runs.append(one_run(row, scenario, opts.secs)))
            if scenario.rate:
                guarded(row, lambda: row.paced.append(one_run(row, scenario, opts.secs, scenario.rate)))
    for row in rows:
        if not row.bad:
            row.peak_rss_kib = measure.peak_rss_kib(row.pids())
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
            guarded(row, lambda: (row.up(), check(row), row.runs.append(one(row, opts)), row.down()))
