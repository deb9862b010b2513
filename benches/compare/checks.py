"""A row is only worth a figure when its answers are right: status, body, header fields, log lines."""
import http.client
import json
import os
import re
import socket
import subprocess
import time

import tokens
from proxies import FIXED_BODY, FIXED_PATH

PATTERN = b"abcdefghijklmnopqrstuvwxyz012345"      # what upstream.c repeats


def pattern(n):
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


def fetch(row, path, headers=None):
    """(status, headers, body) of one GET, with the row's own credentials unless told otherwise."""
    if row.h2:
        return fetch_h2(row, path)
    return get(row.place.port, path, {"Host": "bench.test", **(row.headers if headers is None else headers)})


def get(port, path, headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        c.request("GET", path, headers=headers)
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
    if row.wish.limit == "refuse":
        check_refused(row)
    else:
        check_body(row)
        if row.spec.request_id:
            check_request_id(row)
    if row.wish.auth:
        check_callers(row)
    if row.wish.limit == "caller":
        check_limit_per_caller(row)
    if row.wish.limit in ("redis", "lease"):
        check_redis(row)
    if row.wish.cache:
        check_hits(row)
    if row.spec.metrics:
        metrics(row)


def metrics(row):
    status, _, body = get(row.place.metrics_port, row.spec.metrics, {})
    assert status == 200, "no metrics"
    return body.decode()


def check_body(row):
    status, _, body = fetch(row, row.path)
    want = FIXED_BODY.encode() if row.path == FIXED_PATH else pattern(int((re.findall(r"/(?:bytes|cache)/(\d+)", row.path) or [1024])[0]))
    assert status == 200 and body == want, f"GET {row.path} gave {status} and {len(body)} bytes, not 200 and the right {len(want)}"


def check_request_id(row):
    _, headers, body = fetch(row, "/echo")
    sent = re.search(rb"(?i)\r\nx-request-id: *(\S+)", body)
    assert sent, "no X-Request-Id to the upstream"
    assert headers.get("x-request-id"), "no X-Request-Id to the client"
    # over HTTP/2 these are two requests (see fetch_h2)
    assert row.h2 or headers["x-request-id"] == sent[1].decode(), "the client and the upstream saw different request ids"
    assert fetch(row, row.path)[1].get("x-request-id") != headers["x-request-id"], "the request id repeats"


def check_refused(row):
    for _ in range(30):                                # HAProxy lets ten through, nginx and Tollgate one
        status, headers, _ = fetch(row, row.path)
    assert status == 429, f"the 30th request got {status}, not 429"
    if row.spec.request_id:
        assert headers.get("x-request-id"), "no X-Request-Id with the 429"
        assert fetch(row, row.path)[1].get("x-request-id") != headers["x-request-id"], "the request id repeats"


def check_callers(row):
    for what, headers, want in tokens.refused():
        status = fetch(row, row.path, headers)[0]
        assert status == want, f"{what} got {status}, not {want}"


def check_limit_per_caller(row):
    """After two callers, two are counted: both Tollgate and HAProxy tell how many they hold."""
    for caller in ("caller-0", "caller-1"):
        assert fetch(row, row.path, tokens.bearer(caller))[0] == 200, f"{caller} was refused"
    found = re.search(r'^(?:haproxy_sticktable_used\{.*name="counted".*\}|tollgate_rate_limit_keys\{.*\}) (\d+)', metrics(row), re.M)
    assert found and int(found[1]) == 2, f"{found[1] if found else 'no'} callers are counted, not 2"


def check_redis(row):
    """The limit is a key in Redis then."""
    with socket.create_connection(("127.0.0.1", row.place.redis), 5) as s:
        s.sendall(b"DBSIZE\r\n")
        size = s.recv(64)
    assert re.match(rb":[1-9]", size), f"nothing is counted in Redis: {size}"


def check_hits(row):
    fetch(row, row.path)
    time.sleep(0.2)                                    # the copy may be kept a moment after the answer
    if row.paths:
        keep_all(row)
    before = asked(row)
    for _ in range(5):
        check_body(row)
    assert asked(row) == before, f"{asked(row) - before} of 5 hits reached the upstream"


def keep_all(row):
    """Asks for all paths, until a whole pass of them reaches the upstream no more."""
    for _ in range(5):
        before = asked(row)
        get_all(row)
        time.sleep(0.2)
        reached = asked(row) - before
        if not reached:
            return
    raise AssertionError(f"{reached} of {row.paths} paths are not kept")


def get_all(row):
    c = http.client.HTTPConnection("127.0.0.1", row.place.port, timeout=5)
    try:
        for i in range(row.paths):
            c.request("GET", f"{row.path}{i}", headers={"Host": "bench.test"})
            r = c.getresponse()
            body = r.read()
            assert r.status == 200 and body == pattern(1024), f"GET {row.path}{i} gave {r.status} and {len(body)} bytes"
    finally:
        c.close()


def asked(row):
    """How many requests the upstream has had."""
    return int(get(row.place.upstream, "/count", {})[2])


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
    assert not row.wish.auth or b"caller-" in first, "a log line does not tell who called"
    os.truncate(row.spec.log, 0)
    return lines
