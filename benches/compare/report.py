"""Ratios, tables and gates."""
import re
import statistics


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def values(row, key):
    return [r.get(key) for r in row.runs]


def better_peer(rows, key):
    """Which of nginx and HAProxy is the better one, by its median over the rounds."""
    peers = [r for r in rows if r.name in ("nginx", "haproxy") and not r.bad and r.runs]
    return min(peers, key=lambda r: median(values(r, key)), default=None)


def ratio(row, peer_name, rows, key):
    """Median of the per-round ratios. Rounds are compared with themselves, so that slow drift cancels out."""
    return median([a / b for a, b in pairs(row, peer_name, rows, key)])


def difference(row, peer_name, rows, key):
    """Median of the per-round differences."""
    return median([a - b for a, b in pairs(row, peer_name, rows, key)])


def share(row, peer_name, of, rows, key):
    """The difference in percent of what another row costs in the same rounds: this says the same on a slow machine."""
    more = [a - b for a, b in pairs(row, peer_name, rows, key)]
    return median([100 * x / c for x, (_, c) in zip(more, pairs(row, of, rows, key))])


def pairs(row, peer_name, rows, key):
    """The row's figure and the peer's of each round; none when one of them failed."""
    peer = better_peer(rows, key) if peer_name == "best" else next((r for r in rows if r.name == peer_name), None)
    if not peer or peer.bad or row.bad:
        return []
    return list(zip(values(row, key), values(peer, key)))


def summary(row, rows, scenario):
    """What goes into the JSON for one row."""
    out = {"settings": row.spec.settings, "failed": row.bad or None, "runs": row.runs, "paced_runs": row.paced}
    if row.bad:
        return out
    out["median"] = {k: median(values(row, k)) for k in row.runs[0] if k != "status"}
    if row.paced:
        out["paced_median"] = {k: median([r.get(k) for r in row.paced]) for k in row.paced[0] if k != "status"}
    out["ratio"] = {p: ratio(row, p, rows, scenario.value) for p in scenario.peers}
    out["difference"] = {p: difference(row, p, rows, scenario.value) for p in scenario.peers}
    out["peak_rss_kib"] = getattr(row, "peak_rss_kib", None)
    return out


def number(x, form="%.1f"):
    return "-" if x is None else form % x


def spread(row, key):
    v = values(row, key)
    return f"±{50 * (max(v) - min(v)) / median(v):.0f}%"


def table(scenario, rows):
    columns = {"load": load_columns, "idle": idle_columns, "slow": slow_columns}[scenario.kind](scenario)
    if scenario.against_itself():
        columns |= {f"us over {p}": over(p, rows, scenario) for p in scenario.peers}
        if any(row.name == PLAIN_NGINX for row in rows):
            columns |= {f"that in % of {PLAIN_NGINX}": part(p, rows, scenario) for p in scenario.peers}
    heads = ["proxy"] + list(columns) + [f"x {p}" for p in scenario.peers]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        if row.bad:
            print(f"| {row.name} | FAILED: {row.bad} |" + " |" * (len(heads) - 2))
            continue
        cells = [row.name] + [f(row) for f in columns.values()]
        cells += [number(ratio(row, p, rows, scenario.value), "%.2f") for p in scenario.peers]
        print("| " + " | ".join(cells) + " |")
    for row in rows:
        for remark in remarks(row):
            print(f"- {row.name}: {remark}")
    print(flush=True)


def over(peer, rows, scenario):
    return lambda row: number(difference(row, peer, rows, scenario.value), "%+.2f")


def part(peer, rows, scenario):
    return lambda row: number(share(row, peer, PLAIN_NGINX, rows, scenario.value), "%+.1f")


def load_columns(scenario):
    paced = f" at {scenario.rate}/s" if scenario.rate else ", saturated"

    def latency(key):
        return lambda row: number(median([r.get(key) for r in row.paced or row.runs]), "%.0f")
    return {
        "CPU us/request": lambda row: number(median(values(row, "cpu_us")), "%.2f"),
        "spread": lambda row: spread(row, "cpu_us"),
        "requests/s": lambda row: number(median(values(row, "rps")), "%.0f"),
        "core %": lambda row: number(median(values(row, "core_pct")), "%.0f"),
        "p50 us" + paced: latency("p50"),
        "p99 us" + paced: latency("p99"),
        "peak RSS MiB": lambda row: number(row.peak_rss_kib / 1024),
    }


def idle_columns(scenario):
    return {
        "bytes/connection": lambda row: number(median(values(row, "bytes_per_conn")), "%.0f"),
        "the same by PSS": lambda row: number(median(values(row, "pss_per_conn")), "%.0f"),
        **rss_columns(),
        "CPU us per connection + request": lambda row: number(median(values(row, "cpu_us_per_conn"))),
        "idle CPU ms/s": lambda row: number(median(values(row, "idle_cpu_ms_per_s")), "%.2f"),
    }


def slow_columns(scenario):
    return {"RSS grew by MiB": lambda row: number(median(values(row, "growth_kib")) / 1024), **rss_columns()}


def rss_columns():
    def mib(key):
        return lambda row: number(median(values(row, key)) / 1024)
    return {"RSS before MiB": mib("before_kib"), "full MiB": mib("full_kib"), "after MiB": mib("after_kib")}


def remarks(row):
    if row.bad:
        return
    every = row.runs + row.paced
    errors = sum(r.get("errors", 0) for r in every)
    if errors:
        yield f"{errors} connection errors"
    if any(r.get("others_pct", 0) > 15 for r in every):
        yield "something else used the proxy's CPU: trust the figures less"
    if any(r.get("behind_s", 0) > 0.05 for r in row.paced):
        yield "could not hold the fixed rate"


PLAIN_NGINX = "nginx-plain"
NUMBER = r"(\d+(?:\.\d+)?)"
GATE = re.compile(rf"([\w-]+):(?:([\w.-]+)/)?([\w.-]+)(?:<={NUMBER}|\+{NUMBER}us|\+{NUMBER}%([\w.-]+)|<{NUMBER})$")


def gate(text, done):
    """SCENARIO:[ROW/]PEER<=X: True when the row's cost is at most X times the peer's; PEER+Xus: at most X us more;
    PEER+X%OF: at most X percent more of what the row OF costs.

    SCENARIO:[ROW/]FIELD<X: when the row's own figure, the median over the rounds, is below X."""
    name, subject, peer, times, more, percent, of, below = GATE.match(text).groups()
    x = None
    if name in done:
        scenario, rows = done[name]
        row = next((r for r in rows if r.name == (subject or scenario.subject)), None)
        if row and below:
            x = None if row.bad else median(values(row, peer))
        elif row and percent:
            x = share(row, peer, of, rows, scenario.value)
        elif row and (times or scenario.value == "cpu_us"):
            x = (ratio if times else difference)(row, peer, rows, scenario.value)
    ok = x is not None and (x < float(below) if below else x <= float(times or more or percent))
    print(f"gate {text}: {number(x, '%.3f')} {'ok' if ok else 'MISSED'}")
    return ok
