"""How each proxy is configured: one function per proxy, giving a Spec.

All do the same work: one worker, keep-alive to the upstream, a request id and X-Forwarded-For to the upstream, the
request id to the client, counters for metrics, and (when the scenario logs) one JSON line per request in a file.
"""
import os
import shlex
import shutil
from dataclasses import dataclass, field

from tokens import ROLE, SECRET

FIXED_BODY = "Answered by the proxy itself, without asking any upstream."
FIXED_PATH = "/fixed"


@dataclass
class Place:
    """Where one proxy runs."""
    folder: str            # private, new
    port: int
    metrics_port: int
    upstream: int          # port of the upstream
    redis: int = 0         # port of Redis, when there is one


@dataclass
class Wish:
    """What a scenario wants of every proxy."""
    log: bool = True
    h2: bool = False
    fixed: bool = False    # /fixed is answered by the proxy
    routes: int = 1        # Tollgate only
    auth: bool = False     # a JWT and a role are asked for
    limit: str = ""        # a key of LIMITS
    limit_fields: bool = True      # Tollgate only: answers tell how the limit stands
    cache: bool = False
    store: str = "memory"  # Tollgate only: where its cache keeps answers
    request_id: bool = True

    def plain(self):
        """Whether any proxy does it that only forwards."""
        return not (self.fixed or self.auth or self.limit or self.cache)


@dataclass
class Spec:
    argv: list
    log: str = ""          # the access log, when there is one
    stdout: str = ""       # file that takes standard output
    settings: str = ""     # how it logs, for the report
    metrics: str = ""      # path on the metrics port; empty: not known
    request_id: bool = True
    env: dict = field(default_factory=dict)


# [rate_limits.*] of Tollgate; the peers have what comes nearest
LIMITS = {
    "caller": 'key = "caller"\nquota = "100000/1s"',          # never refuses here
    "address": 'key = "client_ip"\nquota = "1000000/1s"',     # likewise
    "refuse": 'key = "client_ip"\nquota = "1/1h"',            # refuses all but one
    "redis": 'key = "client_ip"\nquota = "1000000/1s"\nstore = "redis"\non_store_error = "deny"\nlease = 1',
    "lease": 'key = "client_ip"\nquota = "1000000/1s"\nstore = "redis"\non_store_error = "deny"\nlease = 50',
}


def put(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


# ---- nginx
NGINX_LINE = ('{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","host":"$host","path":"$uri",'
              '"status":$status,"bytes":$body_bytes_sent,"duration":$request_time,"request_id":"$request_id",'
              '"upstream":"$upstream_addr","upstream_duration":"$upstream_response_time","user_agent":"$http_user_agent"}')


def nginx_http(place, wish):
    """What stands in http {}."""
    if wish.limit == "refuse":
        # level info: the refusals stay out of the error log
        return "limit_req_zone $binary_remote_addr zone=clients:1m rate=1r/m; limit_req_status 429; limit_req_log_level info;"
    if wish.cache:                                         # hits come from the page cache by sendfile
        return (f"proxy_cache_path {place.folder}/cache levels=1:2 keys_zone=answers:16m max_size=256m inactive=1d use_temp_path=off; "
                "open_file_cache max=1000 inactive=1h; open_file_cache_valid 60s;")
    return ""


def nginx_location(wish):
    """What stands in location / {} beside the forwarding."""
    if wish.limit == "refuse":
        return "limit_req zone=clients;"
    return "proxy_cache answers; proxy_cache_lock on;" if wish.cache else ""


def nginx(place, wish):
    w, log = place.folder, f"{place.folder}/access.log" if wish.log else ""
    access = f"access_log {log} line buffer=64k flush=1s;" if wish.log else "access_log off;"
    user = "user root;" if os.geteuid() == 0 else ""        # its own user could not enter our private folder
    temp = " ".join(f"{kind}_temp_path {w}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    fixed = f"location = {FIXED_PATH} {{ default_type text/plain; return 200 '{FIXED_BODY}'; }}" if wish.fixed else ""
    always = "always" if wish.limit == "refuse" else ""      # 429 too
    answer_id = f"add_header X-Request-Id $request_id {always};" if wish.request_id else ""
    conf = f"""
daemon off; {user} worker_processes 1; worker_rlimit_nofile 16384;
pid {w}/nginx.pid; error_log {w}/error.log warn;
events {{ worker_connections 16000; }}
http {{
  log_format line escape=json '{NGINX_LINE}';
  {access}
  {nginx_http(place, wish)}
  server_tokens off; sendfile on; tcp_nodelay on; {temp}
  keepalive_timeout 300s; keepalive_requests 1000000000;
  upstream up {{ server 127.0.0.1:{place.upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  server {{
    listen 127.0.0.1:{place.port}{" http2" if wish.h2 else ""};
    {answer_id}
    {fixed}
    location / {{
      {nginx_location(wish)}
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      # room for big bodies, and none of them spooled to disk
      proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;
    }}
  }}
  server {{ listen 127.0.0.1:{place.metrics_port}; access_log off; location = /metrics {{ stub_status; }} }}
}}
"""
    settings = "JSON line, buffer=64k flush=1s" if wish.log else "no access log"
    return Spec([shutil.which("nginx"), "-p", w, "-c", put(f"{w}/nginx.conf", conf)], log=log, settings=settings, metrics="/metrics",
                request_id=wish.request_id)


# ---- HAProxy
HAPROXY_LINE = ('{"time":"%Tl","client":"%ci","method":"%HM","host":"%[var(txn.host),json(utf8s)]","path":"%HP","status":%ST,'
                '"bytes":%B,"duration":%Ta,"request_id":"%ID","upstream":"%s","upstream_duration":%Tr,'
                '"user_agent":"%[var(txn.agent),json(utf8s)]"}')


def haproxy_line(wish):
    return HAPROXY_LINE[:-1] + ',"principal":"%[var(txn.sub),json(utf8s)]"}' if wish.auth else HAPROXY_LINE


HAPROXY_AUTH = f"""
  http-request set-var(txn.token) http_auth_bearer
  http-request deny deny_status 401 unless {{ var(txn.token) -m found }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_header_query('$.alg') -m str HS256 }}
  http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify("HS256","{SECRET}") -m int 1 }}
  http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.exp),sub(txn.now) -m int gt 0 }}
  http-request set-var(txn.sub) var(txn.token),jwt_payload_query('$.sub')
  http-request set-var(txn.role) var(txn.token),jwt_payload_query('$.role')
  http-request deny deny_status 403 unless {{ var(txn.role) -m str {ROLE} }}"""

# limit: (rules of the frontend, the stick table)
HAPROXY_LIMITS = {
    "caller": ("http-request track-sc0 var(txn.sub) table counted\n"
               "  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }",       # 100,000/s over 10 s
               "type string len 64 size 100k expire 60s store http_req_rate(10s)"),
    "refuse": ("http-request track-sc0 src table counted\n"
               "  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 10 }",
               "type ip size 100k expire 60s store http_req_rate(60s)"),
}
HAPROXY_CACHE = """
cache answers
  total-max-size 64
  max-object-size 1000000
  max-age 86400
"""


def haproxy_policies(wish):
    """(lines of the frontend, lines of the backend, further sections)"""
    rules, table = HAPROXY_LIMITS.get(wish.limit, ("", ""))
    sections = f"backend counted\n  stick-table {table}\n" if table else ""
    if wish.cache:
        return rules, "http-request cache-use answers\n  http-response cache-store answers", sections + HAPROXY_CACHE
    return (HAPROXY_AUTH if wish.auth else "") + f"\n  {rules}", "", sections


def haproxy_request_id(wish):
    if not wish.request_id:
        return ""
    # http-response does not reach what HAProxy answers by itself
    rules = "http-after-response" if wish.limit == "refuse" else "http-response"
    return f"""unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  {rules} set-header X-Request-Id %[unique-id]"""


def haproxy(place, wish):
    log = f"{place.folder}/access.log" if wish.log else ""
    to_stdout = "log stdout format raw local0" if wish.log else ""
    line = f"""
  log global
  log-format '{haproxy_line(wish)}'
  http-request set-var(txn.host) req.hdr(host)
  http-request set-var(txn.agent) req.hdr(user-agent)""" if wish.log else ""
    fixed = (f"http-request return status 200 content-type text/plain string '{FIXED_BODY}' hdr X-Request-Id %[unique-id] "
             f"if {{ path {FIXED_PATH} }}") if wish.fixed else ""
    front, back, sections = haproxy_policies(wish)
    conf = f"""
global
  nbthread 1
  maxconn 7000
  {to_stdout}
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
frontend metrics
  bind 127.0.0.1:{place.metrics_port}
  http-request use-service prometheus-exporter
frontend main
  bind 127.0.0.1:{place.port}{" proto h2" if wish.h2 else ""}{line}
  {haproxy_request_id(wish)}
  {front}
  {fixed}
  option forwardfor
  http-request set-header X-Forwarded-Proto http
  default_backend up
{sections}
backend up
  {back}
  http-reuse always
  server s 127.0.0.1:{place.upstream}
"""
    settings = ("JSON line to standard output, which is a file: one write per request, because HAProxy 2.6 has no buffered way into "
                "a file" if wish.log else "no access log")
    return Spec([shutil.which("haproxy"), "-db", "-f", put(f"{place.folder}/haproxy.cfg", conf)],
                log=log, stdout=log, settings=settings, metrics="/metrics", request_id=wish.request_id)


# ---- Tollgate
TOLLGATE_AUTH = f"""
[auth.jwt.bench]
secret = "{SECRET}"
roles_claim = "role"
[roles.{ROLE}]
permissions = "bench:read"
"""


def tollgate_policies(place, wish):
    """(tables, keys of the route)"""
    tables = keys = ""
    if wish.auth:
        tables += TOLLGATE_AUTH
        keys += f'auth = "jwt.bench"\nroles = "{ROLE}"\n'
    if wish.limit:
        tables += f"[rate_limits.bench]\n{LIMITS[wish.limit]}\n" + ("" if wish.limit_fields else 'headers = "off"\n')
        keys += 'rate_limits = "bench"\n'
    # "deny" above and a long timeout here: what Redis did not decide would spoil the figure unseen
    if place.redis and "redis" in LIMITS.get(wish.limit, "") + wish.store:
        tables += f'[redis]\nurl = "redis://127.0.0.1:{place.redis}"\ntimeout = "1s"\n'
    if wish.cache:
        tables += f'[cache_rules.bench]\nstore = "{wish.store}"\n'
        keys += 'cache = "bench"\n'
    return tables, keys


def tollgate_config(place, wish):
    tables, keys = tollgate_policies(place, wish)
    access = f'file = "{place.folder}/access.log"' if wish.log else "enabled = false"
    # the catch-all is one of the routes; the others lie beside it, each a literal and a rest
    extra = "".join(f'[routes.x{i}]\npath = "/r/{i}/**"\nupstream = "u"\n' for i in range(1, wish.routes))
    fixed = f'[routes.fixed]\npath = "{FIXED_PATH}"\nrespond = {{ status = 200, body = "{FIXED_BODY}" }}\n' if wish.fixed else ""
    return put(f"{place.folder}/tollgate.toml", f"""
[server]
listen = ["127.0.0.1:{place.port}"]
workers = 1
[admin]
listen = "127.0.0.1:{place.metrics_port}"
[log.access]
{access}
[upstreams.u]
servers = ["http://127.0.0.1:{place.upstream}"]
{tables}
[routes.all]
upstream = "u"
{keys}{fixed}{extra}""")


def tollgate(place, wish, binary):
    log = f"{place.folder}/access.log" if wish.log else ""
    return Spec([binary, "run", "--config", tollgate_config(place, wish)], log=log, metrics="/metrics",
                settings="JSON line to a file, buffered as it comes" if wish.log else "no access log")


# ---- any other proxy
def other(place, wish, command):
    """{port} and {upstream} are port numbers; {config} is the Tollgate configuration of the scenario, so that another
    build of Tollgate can be measured; {log} is the file that must take one JSON line per request."""
    log = f"{place.folder}/access.log"
    config = tollgate_config(place, wish)
    logs = wish.log and ("{config}" in command or "{log}" in command)
    argv = [a.format(port=place.port, upstream=place.upstream, config=config, log=log) for a in shlex.split(command)]
    return Spec(argv, log=log if logs else "", settings=("one JSON line per request, checked" if logs else "no access log"),
                request_id="{config}" in command, metrics="/metrics" if "{config}" in command else "")
