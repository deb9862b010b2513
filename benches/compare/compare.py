#!/usr/bin/env python3
"""Tollgate beside nginx and HAProxy on one machine: CPU time per request, memory, latency. See README.md."""
import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import checks
import measure
import report
import scenarios
from scenarios import SCENARIOS, Row

HERE = os.path.dirname(os.path.abspath(__file__))


def options():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--scenarios", default=",".join(SCENARIOS), help="default: %(default)s")
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("--secs", type=float, default=2.5, help="length of one measured run (default %(default)s)")
    ap.add_argument("--restart-every", type=int, default=0, metavar="ROUNDS",
                    help="new processes after so many rounds: where one's memory lay then counts for less")
    ap.add_argument("--only", default="", metavar="ROWS", help="only these rows, e.g. tollgate,nginx")
    ap.add_argument("--binary", help="this tollgate instead of building one")
    ap.add_argument("--other", action="append", default=[], metavar="NAME=CMD",
                    help="another proxy: {port} and {upstream} are port numbers, {config} a tollgate configuration, {log} the log file")
    ap.add_argument("--gate", action="append", default=[], metavar="SCENARIO:[ROW/]PEER<=X",
                    help="exit 1 unless ROW (tollgate) costs at most X times PEER (a row, or best), e.g. 'plain:best<=1.0'; "
                         "PEER+Xus: at most X us more for each request, e.g. 'auth:plain+2us'; "
                         "PEER+X%%OF: at most X %% more of what the row OF costs, e.g. 'limit:plain+3%%nginx-plain'; "
                         "FIELD<X: a figure of its own is below X, e.g. 'idle:bytes_per_conn<20480'")
    ap.add_argument("--json", metavar="FILE", help="write every single figure there")
    ap.add_argument("--work", help="working folder, kept; default: a temporary one, removed")
    ap.add_argument("--check-only", action="store_true", help="start each proxy and check its answers, measure nothing")
    ap.add_argument("--idle-conns", type=int, default=5000)
    ap.add_argument("--slow-secs", type=float, default=8)
    opts = ap.parse_args()
    opts.others = dict(o.split("=", 1) for o in opts.other)
    unknown = set(opts.scenarios.split(",")) - set(SCENARIOS)
    if unknown or not all(map(report.GATE.match, opts.gate)):
        ap.error(f"unknown scenario {unknown}" if unknown else
                 "a --gate looks like plain:best<=1.0, auth:plain+2us or idle:bytes_per_conn<20480")
    return opts


# ---- setting up
def build_tollgate():
    """The fastest there is. The last line that is printed is its path."""
    made = subprocess.run([f"{HERE}/../../scripts/release"], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        sys.exit("scripts/release made none; --binary takes another, e.g. that of cargo build --release")
    return made.stdout.splitlines()[-1]


def build_tools(work):
    for name in ("upstream", "lgen"):
        subprocess.run(["gcc", "-O2", "-Wall", "-o", f"{work}/{name}", f"{HERE}/src/{name}.c", "-lm"], check=True)


def need(*tools):
    missing = [t for t in tools if not shutil.which(t)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}. Run {os.path.basename(HERE)}/setup first.")


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 16384:
        print(f"warning: at most {hard} open files here; the idle scenario wants 16384")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start_upstream(work):
    port = measure.free_port()
    p = measure.start([f"{work}/upstream", str(port)], measure.LOAD_CPU, work)
    if not measure.wait_for_port(port, p):
        sys.exit("the upstream did not start")
    return port


def start_redis(work):
    """0 when there is no redis-server."""
    binary = shutil.which("redis-server")
    if not binary:
        return 0
    port = measure.free_port()
    p = measure.start([binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", work],
                      measure.LOAD_CPU, work)
    if not measure.wait_for_port(port, p):
        sys.exit("redis-server did not start")
    return port


def why_skipped(scenario, rows, opts):
    """Redis, and a Tollgate that can use it, may be missing."""
    if not scenario.redis:
        return ""
    if not opts.redis:
        return "there is no redis-server"
    for row in rows:
        if row.spec.argv[0] == opts.binary:
            p = subprocess.run([opts.binary, "check", "--config", row.spec.argv[-1]], capture_output=True, text=True)
            errors = re.findall(r"^error.*", p.stdout + p.stderr, re.M)
            if p.returncode:
                return f"this tollgate refuses the configuration of {row.name}: " + "; ".join(errors)
    return ""


def row_names(scenario, opts):
    names = list(scenario.rows)
    if scenario.subject == "tollgate":                 # the routes scenario is Tollgate against itself
        # only another Tollgate can be told to do more than forward
        names += [n for n, command in opts.others.items() if scenario.wish.plain() or "{config}" in command]
    wanted = opts.only.split(",") if opts.only else names
    return [n for n in names if n in wanted]


def versions(opts):
    def first_line(*argv):
        p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return p.stdout.strip().split("\n")[0]
    argv = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "h2load": ["h2load", "--version"]}
    found = {tool: first_line(*argv[tool]) for tool in argv if shutil.which(tool)}
    found["kernel"] = os.uname().release
    if opts.binary:
        found["tollgate"] = first_line(opts.binary, "--version")
    with open("/proc/cpuinfo") as f:
        found["cpu"] = (re.findall(r"model name\s*: (.*)", f.read()) or [os.uname().machine])[0]
    return found


# ---- running
def run(name, opts):
    scenario, opts.scenario = SCENARIOS[name], name
    rows = [Row(n, scenario, opts) for n in row_names(scenario, opts)]
    if not rows:
        return scenario, rows
    print(f"## {name}: {scenario.title}\n")
    why = why_skipped(scenario, rows, opts)
    if why:
        print(f"SKIPPED: {why}\n", flush=True)
        return scenario, []
    for row in rows:
        print(f"- {row.name}: {row.spec.settings}{'' if row.spec.request_id else '; NO request id'}")
    print(flush=True)
    if opts.check_only:
        for row in rows:
            scenarios.guarded(row, lambda: (row.up(), checks.check(row)))
            row.down()
            print(f"{row.name}: {row.bad or 'answers right'}\n", flush=True)
        return scenario, rows
    (scenarios.run_load if scenario.kind == "load" else scenarios.run_memory)(rows, scenario, opts)
    report.table(scenario, rows)
    return scenario, rows


def save(path, opts, about, done):
    result = {"versions": about, "rounds": opts.rounds, "secs": opts.secs, "idle_conns": opts.idle_conns, "scenarios": {
        name: {row.name: report.summary(row, rows, scenario) for row in rows} for name, (scenario, rows) in done.items()}}
    with open(path, "w") as f:
        json.dump(result, f, indent=1)


def measure_all(opts):
    build_tools(opts.work)
    opts.upstream = start_upstream(opts.work)
    opts.redis = start_redis(opts.work) if any(SCENARIOS[s].redis for s in opts.scenarios.split(",")) else 0
    os.sched_setaffinity(0, {measure.LOAD_CPU})        # this script must not disturb the proxy either
    about = versions(opts)
    print("\n".join(f"{k}: {v}" for k, v in about.items()))
    print(f"rounds: {opts.rounds}, {opts.secs} s each; proxy alone on CPU {measure.PROXY_CPU} with one worker, "
          f"load and upstream on CPU {measure.LOAD_CPU}\n")
    done = {}
    for name in opts.scenarios.split(","):
        done[name] = run(name, opts)
        if opts.json and not opts.check_only:
            save(opts.json, opts, about, done)
    return done


def verdict(opts, done):
    gates = [report.gate(g, done) for g in opts.gate] if not opts.check_only else []
    failed = [f"{name}/{row.name}" for name, (_, rows) in done.items() for row in rows if row.bad]
    if failed:
        print("failed rows: " + ", ".join(failed))
    return 0 if all(gates) and not failed else 1


def all_rows(opts):
    return [name for scenario in opts.scenarios.split(",") for name in row_names(SCENARIOS[scenario], opts)]


def wanted_tools(opts):
    """The peers that are measured, and a client for HTTP/2 where that is."""
    peers = [peer for peer in ("nginx", "haproxy") if any(name.startswith(peer) for name in all_rows(opts))]
    http2 = any(SCENARIOS[scenario].wish.h2 for scenario in opts.scenarios.split(","))
    return peers + (["h2load", "nghttp"] if http2 else [])


def wants_tollgate(opts):
    return any("tollgate" in name or name == "plain" for name in all_rows(opts))


def main():
    opts = options()
    need("gcc", *wanted_tools(opts))
    if not {measure.PROXY_CPU, measure.LOAD_CPU} <= os.sched_getaffinity(0):
        sys.exit("CPUs 0 and 1 are needed, one for the proxy and one for the load")
    if wants_tollgate(opts):
        opts.binary = os.path.abspath(opts.binary or build_tollgate())
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))    # so that the clean-up below runs
    work, opts.work = opts.work, opts.work and os.path.abspath(opts.work)
    opts.work = tempfile.mkdtemp(dir=opts.work, prefix="compare-")
    try:
        code = verdict(opts, measure_all(opts))
    finally:
        for p in list(measure.started):
            measure.stop(p)
        if not work:
            shutil.rmtree(opts.work, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
