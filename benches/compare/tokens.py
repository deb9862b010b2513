"""The callers: JWTs (HS256) for them, and for the checks some that must be refused."""
import base64
import hashlib
import hmac
import json
import time

SECRET = "no-secret-at-all-but-one-for-this-bench"      # without what HAProxy would have to have quoted
ROLE = "reader"
CALLERS = 64                   # as many as lgen has connections: each connection is another caller
VALID = 24 * 3600              # seconds


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(subject, role=ROLE, secret=SECRET, algorithm="HS256", valid=VALID):
    parts = {"alg": algorithm, "typ": "JWT"}, {"sub": subject, "role": role, "exp": int(time.time()) + valid}
    signed = b".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    mac = hmac.new(secret.encode(), signed, hashlib.sha256).digest() if algorithm == "HS256" else b""
    return (signed + b"." + base64url(mac)).decode()


def bearer(*args, **kwargs):
    return {"Authorization": "Bearer " + token(*args, **kwargs)}


def header_file(path):
    """One line for each caller, for lgen -H."""
    with open(path, "w") as f:
        f.writelines(f"Authorization: Bearer {token(f'caller-{i}')}\n" for i in range(CALLERS))
    return path


def refused():
    """(what is wrong, request headers, status that it must get)"""
    return [("no token", {}, 401),
            ("a bad signature", bearer("caller-0", secret="x" * 40), 401),
            ("an expired token", bearer("caller-0", valid=-3600), 401),
            ("a token without signature", bearer("caller-0", algorithm="none"), 401),
            ("a wrong role", bearer("caller-0", role="guest"), 403)]
