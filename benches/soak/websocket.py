"""Just enough of WebSocket (RFC 6455) for both ends of the soak: whole messages of less than 64 KiB."""
import base64
import hashlib
import os
import struct

from wire import Broken, exactly

BINARY, CLOSE = 2, 8


def new_key():
    return base64.b64encode(os.urandom(16)).decode()


def accept(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def message(opcode, payload, masked):
    """A client masks what it sends."""
    n, bit = len(payload), 0x80 if masked else 0
    length = bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n)
    mask = os.urandom(4) if masked else b""
    return bytes([0x80 | opcode]) + length + mask + (unmask(mask, payload) if masked else payload)


def unmask(mask, payload):
    n = len(payload)
    pad = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(n, "big")


async def read_message(reader):
    """(opcode, payload). Raises Broken."""
    first, second = await exactly(reader, 2)
    n = second & 0x7F
    if n == 127:
        raise Broken("a message of 64 KiB or more")
    if n == 126:
        n = int.from_bytes(await exactly(reader, 2), "big")
    mask = await exactly(reader, 4) if second & 0x80 else bytes(4)
    return first & 0x0F, unmask(mask, await exactly(reader, n))
