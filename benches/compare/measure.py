"""Starting processes, reading what they cost, and putting load on them."""
import glob
import json
import os
import re
import signal
import socket
import subprocess
import time

PROXY_CPU, LOAD_CPU = 0, 1
started = []                 # every process that we started: only these are ever stopped


# ---- processes
def start(argv, cpu, folder, stdout="", env=None):
    """Starts argv on one CPU. Standard error goes to a file in the folder."""
    out = open(stdout, "ab") if stdout else subprocess.DEVNULL
    with open(f"{folder}/stderr.log", "ab") as err:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, start_new_session=True,
                             env={**os.environ, **(env or {})}, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
    if stdout:
        out.close()
    started.append(p)
    return p


def stop(p):
    """SIGTERM, then SIGKILL after 5 s; its children too, should they outlive it."""
    if p.poll() is None:
        children = [(c, birth(c)) for c in tree(p.pid)[1:]]
        p.send_signal(signal.SIGTERM)
        try:
            p.wait(5)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        for child, born in children:
            if born and birth(child) == born:          # the same process, not a later one with its number
                kill(child)
    if p in started:
        started.remove(p)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def birth(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def tree(pid):
    """The process and its descendants."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        for path in glob.glob(f"/proc/{found[-1]}/task/*/children"):
            try:
                with open(path) as f:
                    todo += map(int, f.read().split())
            except OSError:
                pass
    return found


def free_port(taken=set()):
    """A port that nobody listens on and that we have not handed out before."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port


def wait_for_port(port, p, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end and p.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


# ---- what they cost
def cpu_ns(pids):
    """utime+stime of whole processes in ns: the CPU clock of another process (see clock_getcpuclockid(3))."""
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            pass                                       # gone
    return total


def memory_kib(pids):
    """RSS and PSS, summed. PSS counts what nginx's two processes share only once."""
    total = {"rss": 0, "pss": 0}
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            text = f.read()
        for key in total:
            total[key] += int(re.search(rf"^{key}:\s+(\d+)", text, re.M | re.I)[1])
    return total


def peak_rss_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as f:
            total += int(re.search(r"VmHWM:\s+(\d+)", f.read())[1])
    return total


def cpu_busy_seconds(cpu):
    """How long this CPU was not idle since boot, whoever used it."""
    with open("/proc/stat") as f:
        line = re.search(rf"^cpu{cpu} (.*)$", f.read(), re.M)[1]
    n = [int(x) for x in line.split()[:8]]
    return (sum(n) - n[3] - n[4]) / os.sysconf("SC_CLK_TCK")


# ---- load
def on_load_cpu(argv, timeout):
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout,
                          preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CPU}))


def lgen(binary, port, path, pids, conns, seconds, rate=0, header_file="", paths=0, addresses=False):
    argv = [binary, "-c", str(conns), "-d", str(seconds), "-w", str(min(0.5, seconds)), "-R", str(rate), "-P", ",".join(map(str, pids))]
    argv += ["-H", header_file] if header_file else []
    argv += ["-n", str(paths)] if paths else []
    argv += ["-a"] if addresses else []
    p = on_load_cpu(argv + [str(port), path], seconds + 20)
    if p.returncode:
        raise RuntimeError("lgen said: " + p.stderr[-300:])
    return json.loads(p.stdout)


def h2load(port, path, pids, seconds):
    """The CPU clocks are read around the whole run, because h2load cannot read them itself."""
    before, t = cpu_ns(pids), time.monotonic()
    o = on_load_cpu(["h2load", "-t1", "-c4", "-m32", f"-D{max(1, round(seconds))}", f"http://127.0.0.1:{port}{path}"], seconds + 25).stdout
    cpu, took = cpu_ns(pids) - before, time.monotonic() - t
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", o)
    errored = re.search(r"(\d+) errored", o)
    if not codes or not errored:
        raise RuntimeError("h2load said: " + o[-300:])
    good, *bad = map(int, codes.groups())
    return {"completed": good, "answered": good + sum(bad), "secs": took, "errors": int(errored[1]), "cpu_ns": cpu,
            "status": {"200": good, "bad": sum(bad)}}
