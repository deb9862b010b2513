"""Just enough HTTP/2 for both ends of the soak: frames, and fields without a table (RFC 9113, RFC 7541).

What one stream and one connection carry here fits the windows that they begin with, so nobody counts on the way out;
what came in gives its room on the connection back at once.
"""
import struct

from wire import Broken, exactly

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS = 1, 3
INTERNAL_ERROR = 2
STATUS_200 = b"\x88"         # an indexed field: `:status: 200`

# Those of the Huffman codes (RFC 7541 appendix B) that `grpc-status: 0` is made of.
CODES = {"0": "00000", "a": "00011", "c": "00100", "s": "01000", "t": "01001", "-": "010110", "g": "100110", "p": "101011",
         "r": "101100", "u": "101101"}


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def plain(text):
    return bytes([len(text)]) + text.encode()          # all of them are shorter than 127


def huffman(text):
    bits = "".join(CODES[c] for c in text)
    bits += "1" * (-len(bits) % 8)
    return bytes([0x80 | len(bits) // 8]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def fields(*pairs):
    """Literal fields that enter no table."""
    return b"".join(b"\0" + plain(name) + plain(value) for name, value in pairs)


def is_ok(block):
    """Whether trailers hold `grpc-status: 0`, in either coding. For who has allowed no table: then it is spelt out."""
    return any(name("grpc-status") + value("0") in block for name in (plain, huffman) for value in (plain, huffman))


async def read_frame(reader, writer):
    """(kind, flags, stream, payload) of the next frame that is about a stream, or of a GOAWAY. Raises Broken."""
    while True:
        head = await exactly(reader, 9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = await exactly(reader, int.from_bytes(head[:3], "big"))
        if kind in (SETTINGS, PING) and not flags & ACK:
            writer.write(frame(kind, ACK, 0, payload if kind == PING else b""))
        if kind == DATA and payload:
            writer.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
        if kind in (DATA, HEADERS, RST_STREAM, GOAWAY):
            return kind, flags, stream, payload


class Call:
    """One stream of a client that has no other at the same time."""

    def __init__(self, reader, writer, stream):
        self.reader, self.writer, self.stream = reader, writer, stream

    def begin(self, *pairs):
        self.writer.write(frame(HEADERS, END_HEADERS, self.stream, fields(*pairs)))

    def send(self, payload):
        self.writer.write(frame(DATA, 0, self.stream, payload))

    def end(self):
        self.writer.write(frame(DATA, END_STREAM, self.stream))

    async def next(self):
        """(kind, flags, payload) of its next frame."""
        while True:
            kind, flags, stream, payload = await read_frame(self.reader, self.writer)
            if kind == GOAWAY:
                raise Broken("GOAWAY within a call")
            if stream == self.stream:
                return kind, flags, payload

    async def data(self, n):
        """So many bytes of its body."""
        got = b""
        while len(got) < n:
            kind, _, payload = await self.next()
            if kind != DATA:
                raise Broken(f"frame {kind} behind {len(got)} of {n} bytes")
            got += payload
        return got
