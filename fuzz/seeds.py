#!/usr/bin/env python3
"""Writes fuzz/corpus: what each target begins with, from tests/vectors and from the texts below."""

import json
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
VECTORS = HERE.parent / "tests" / "vectors"

WHOLE = b"\0"  # A stream in one piece; cuts.rs reads it.
PIECES = b"\x8b"  # In pieces of twelve bytes.
BYTES = b"\x80"  # Byte by byte.


def bodies():
    for kind in ("good", "bad"):
        for vector in json.loads((VECTORS / f"ingest_{kind}.json").read_text()):
            if "content_encoding" not in vector:
                hexadecimal = vector.get("body_hex")
                yield bytes.fromhex(hexadecimal) if hexadecimal else vector["body"].encode()


def lines(*texts):
    return "".join(text + "\r\n" for text in texts).encode()


HEADS = [
    lines("GET / HTTP/1.1", "Host: a", ""),
    lines("GET /api/snapshot?kind=map&metric=a%7Bx%7D HTTP/1.0", "Connection: keep-alive", ""),
    lines("OPTIONS * HTTP/1.1", "Host: a:1", "Access-Control-Request-Method: POST", ""),
    lines("HEAD http://A:1/x?y HTTP/1.1", "Host: a:1", "Connection: close, x", ""),
    lines(
        "GET /api/live HTTP/1.1", "Host: [::1]:80", "Upgrade: h2c, WebSocket", "Origin: http://a",
        "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: tidewall.v1, x",
        "Sec-WebSocket-Protocol: ", "Sec-WebSocket-Protocol: y", "Sec-WebSocket-Protocol: z",
        "Cookie: x", "Cookie: tidewall=t", "",
    ),
    lines(
        "POST /api/metrics HTTP/1.1", "Host: a", "Content-Type: application/json",
        "Authorization: Bearer t", "X-API-Key: t", "Content-Encoding: gzip",
        "Accept-Encoding: gzip", "If-None-Match: x", "Content-Length: 000000000000000002", "",
    ),
    lines("POST / HTTP/1.1", "Host: a", "Expect: 100-continue", "Content-Length: 2", ""),
    lines("PUT / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked", ""),
    lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Content-Length: 2", ""),
    lines("POST / HTTP/1.1", "Host: a", "Host: b", "Transfer-Encoding : chunked", ""),
    lines("GET / HTTP/1.1", "Host: a", "A: b", " c", ""),
    lines("GET / HTTP/1.1", "Host: a", *(f"x-{at}: \t y \t" for at in range(63)), ""),
    b"GET / HTTP/1.1\nHost: a\n\n",
]

CHUNKED = [
    b"0\r\n\r\n",
    b"5\r\nhello\r\n00000001\r\n!\r\n0\r\nExpires: x\r\n\r\nGET",
    b"1\r\nx\r\n" * 64 + b"0\r\n\r\n",
    b"10\r\n0123456789abcdef\r\n" * 70 + b"1\r\nx\r\n0\r\n\r\n",
    b"0\r\n" + b"A: b\r\n" * 8 + b"\r\n",
    b"0\r\nA: " + b"b" * 1019 + b"\r\n\r\n",
    b"0\r\nA: " + b"b" * 1022,
    b"800000\r\nx",
    b"800001\r\nx",
    b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n",
]


def streams():
    plain = HEADS[5]
    get = HEADS[0]
    for head in HEADS:
        yield head + b"hi" + get
    for body in CHUNKED:
        yield HEADS[7] + body + get
    yield (plain + b"hi") * 3 + get + plain + b"hi" + b"\r\n" + get
    yield b"\r\n\r\n" + get
    yield b"\r\n" + get + b"\r\n"
    yield b"GET /" + b"a" * 4092 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 16_384


def frame(first, payload=b"", mask=b"\0\0\0\0", wide=False):
    if wide or 65_535 < len(payload):
        length = b"\xff" + struct.pack(">Q", len(payload))
    elif 125 < len(payload):
        length = b"\xfe" + struct.pack(">H", len(payload))
    else:
        length = bytes([0x80 | len(payload)])
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first]) + length + mask + masked


def sockets():
    euro = "€".encode()
    bye = struct.pack(">H", 1000) + b"bye"
    yield frame(0x81, b"one") + frame(0x82, b"\xff\0", b"mask") + frame(0x8A, b"late")
    yield frame(0x01, b"tw" + euro[:1]) + frame(0x89, b"ping") + frame(0x80, euro[1:])
    yield frame(0x01, b"a") + frame(0x00) * 3 + frame(0x80, b"b")
    yield frame(0x89) * 6 + frame(0x81, b"x") + frame(0x88, bye)
    yield frame(0x81, b"a" * 130) + frame(0x81, b"a" * 131)
    yield frame(0x81, b"a" * 4096) + frame(0x88)
    yield frame(0x81, b"\xff") + frame(0x81, b"x", wide=True)
    yield frame(0x88, b"\x03") + frame(0x81, b"x")
    yield frame(0x88, struct.pack(">H", 1005)) + frame(0x81, b"x")
    yield frame(0x88, bye + b"\xff")
    yield frame(0xC1, b"x") + frame(0x83, b"x") + frame(0x0B) + frame(0x09) + b"\x81\x01x"
    yield b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0"
    yield frame(0x80, b"x") + frame(0x01, b"x") + frame(0x81, b"x")


def pictures():
    kinds = ["map", "lines", "top", "host", "stats"]
    for story in json.loads((VECTORS / "frames" / "frames.json").read_text()):
        frames = [bytes.fromhex(frame["hex"]) for frame in story["frames"]]
        texts = [struct.pack("<H", len(frame)) + frame for frame in frames]
        yield bytes([kinds.index(story["kind"])]) + b"".join(texts)
    for name in ["backfill.json", "malformed.json", "replay.json"]:
        for story in json.loads((VECTORS / "frames" / name).read_text()):
            text = bytes.fromhex(story["hex"])
            kind = kinds.index(story.get("kind", "map"))
            yield bytes([kind]) + struct.pack("<H", len(text)) + text


REQUESTS = [
    'dc=fra and (role~"web*" or not host~web-?) or rack!=1',
    'not (a=1 or b!=2 and not (c~*x?y*)) and "and"="a \\"b\\" \\\\"',
    "((((((((((((((((a=1))))))))))))))))",
    "not " * 16 + "a=1",
    " and ".join(["a=1"] * 32),
    "not (" + " or ".join(f"k{at}~{'x' * 24}*" for at in range(31)) + ")",
    '{"kind":"map","metric":"cpu","where":"dc=fra","hz":5}',
    '{"kind":"lines","exprs":["p50(cpu)"],"backfill_s":3600}',
    '{"kind":"lines","exprs":["p50(cpu)","max(disk.used{device=sda,x=y})"],"by":"dc","hz":0.2}',
    '{"kind":"top","metric":"cpu","n":200,"where":"role=web"}',
    '{"kind":"host","host":"web-1","hz":10}',
    '{"kind":"stats","hz":1,"more":null}',
    "?kind=lines&exprs=p50(cpu),p99(m%7Ba%3D1,b%3D2%7D)&by=dc&where=dc%3Dfra+and+a%3D1",
    "?kind=top&metric=cpu&n=7",
    "?kind=host&host=web+1",
]
HOSTS = "\nweb-1 dc=fra role=web-server a=1\ndb-2 dc=iad rack=1 b=2 c=axby\nweb-3 and=1"

TOKEN = '[[token]]\nname = "{}"\nhash = "{}"\nscopes = ["ingest", "read", "admin"]\n'


def token_files():
    one = TOKEN.format("a", "HASH")
    yield one
    rest = 'samples_per_second = 100\ncolumns = 5\nhost_prefix = "w"\n'
    yield one + "expires = 2027-01-01T00:00:00Z\n" + rest
    yield one + "expires = 2024-02-29 23:59:59.5+01:30\n"
    yield one + "expires = 1969-12-31T23:59:60-12:00\n"
    yield one + "expires = 2027-01-01\ncolumns = 4097\n"
    others = [TOKEN.format(f"of-{digit}", digit * 64) for digit in "0fF"]
    yield one + others[0] + others[1]
    yield one + others[1] + others[2]
    yield one + one
    yield TOKEN.format("n" * 64, "HASH").replace('"read"', '"write"')
    yield "token = [{ name = 'a', hash = \"HASH\", scopes = ['read'] }]"
    yield "x = 1"


def words(*numbers):
    return bytes(numbers)


def nodes():
    """Of two peers: a few messages each, a gap and a keyframe that closes it, silence, a return."""
    names = words(2, 1, 1, 2, 3, 2, 0, 1) + words(1, 0, 1)  # Two hosts, a column.
    cells = words(2, 0, 1, 2, 3, 0, 1, 0, 3, 1, 7, 0, 0, 9)
    picture = names + cells
    whole = names + words(1, 1, 0, 5, 0, 100) + cells

    def message(act, node, seq, body=b""):
        return words(act, node, 1, 9, 0, seq, 0, 50, 0, 120) + body

    delta, restore, stored, want, bye, load = 80, 81, 82, 83, 84, 91
    story = b"".join(message(delta, node, seq, picture) for seq in range(1, 7) for node in (1, 2))
    yield story
    yield story + message(delta, 1, 9, picture) + message(stored, 1, 10, words(0, 9))
    yield story + message(delta, 1, 9, picture) + message(load, 1, 9, whole)
    yield story + words(1) + message(delta, 1, 7, picture) + message(bye, 1, 8) + words(0)
    yield message(want, 1, 1, words(0)) + message(restore, 2, 4, whole)
    yield b"".join(message(delta, 8 + node, 1, picture) for node in range(70))


CORPORA = {
    "decode_json": list(bodies()),
    "decode_ndjson": list(bodies()) + [b"\n".join(bodies())],
    "http1_head": HEADS,
    "chunked": [cut + body for body in CHUNKED for cut in (WHOLE, PIECES, BYTES)],
    "http1": [cut + stream for stream in streams() for cut in (WHOLE, PIECES)],
    "websocket": [
        size + parts + cut + stream
        for stream in sockets() for size in (b"\0", b"\1") for parts in (b"\0", b"\2")
        for cut in (WHOLE, PIECES, BYTES)
    ],
    "frame_reader": list(pictures()),
    "live_control": [(request + HOSTS).encode() for request in REQUESTS],
    "cluster_message": list(nodes()),
    "history_block": [bytes([n % 251 for n in range(11 * 60)]), b"\0\4\2\x14\2" + b"\0" * 6],
    "history_journal": [b"\x80\1\3" + bytes(range(240)), b"\7\0\1" + b"\1\2\0\0\0\0" * 20],
    "token_file": [text.encode() for text in token_files()],
}

for target, seeds in CORPORA.items():
    corpus = HERE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed_{number:03}").write_bytes(seed)
