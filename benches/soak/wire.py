"""Just enough HTTP/1.1 for both ends of the soak, strict about whether a message was whole."""
import asyncio
import re

PATTERN = b"abcdefghijklmnopqrstuvwxyz012345"


def pattern(n):
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


class Broken(Exception):
    """The message ended too early or made no sense. `untouched`: not one byte of it came."""

    def __init__(self, what, untouched=False):
        super().__init__(what)
        self.untouched = untouched


async def read_head(reader):
    """(first line, headers with lower-case names). Raises Broken."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as e:
        raise Broken("closed in the head", untouched=not e.partial)
    except ConnectionError:
        raise Broken("reset in the head", untouched=True)
    except asyncio.LimitOverrunError:
        raise Broken("the head is too long")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return first, {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


async def read_message(reader, is_response):
    """(first line, headers, body). Raises Broken."""
    first, headers = await read_head(reader)
    try:
        return first, headers, await read_body(reader, headers, is_response)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError) as e:
        raise Broken(f"{first}: broken body: {type(e).__name__}")


async def read_body(reader, headers, is_response):
    if "chunked" in headers.get("transfer-encoding", ""):
        return await read_chunks(reader)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if is_response else b""


async def read_chunks(reader):
    body = b""
    while chunk := await read_chunk(reader):
        body += chunk
    return body


async def read_chunk(reader):
    """The next chunk; the last one, with what stands behind it, is empty. Raises Broken."""
    try:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size > 0:
            return (await reader.readexactly(size + 2))[:-2]
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass                                       # trailers
        return b""
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError) as e:
        raise Broken(f"broken chunk: {type(e).__name__}")


async def exactly(reader, n):
    """So many bytes. Raises Broken."""
    try:
        return await reader.readexactly(n)
    except (asyncio.IncompleteReadError, ConnectionError) as e:
        raise Broken(f"closed: {type(e).__name__}")


async def read_response(reader):
    """(status, headers, body)."""
    first, headers, body = await read_message(reader, True)
    m = re.match(r"HTTP/1\.[01] (\d{3})", first)
    if not m:
        raise Broken(f"no status line: {first[:40]!r}")
    return int(m[1]), headers, body
