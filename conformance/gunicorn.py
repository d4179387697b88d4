#!/usr/bin/env python3
"""gunicorn.py ADDRESS CORPUS: sends gunicorn's request corpus over real sockets.

Each case goes out as it stands; where it lacks the Host that RFC 9112 section 3.2 demands, once more
with one, so that the missing Host does not hide what the case is about. A last request follows in
the same bytes, and its answer tells where the server saw the case end:

- `invalid`: one refusal of the request itself (never a mere 404), then the end of the connection;
- `valid`: as many answers as the corpus counts requests, none a refusal, then the last request's,
  unless the case itself closes the connection.

Most resources of the corpus do not exist here, and 404 is said before a body is read. So a case with
a body goes out once more as a POST to the resource that reads bodies, which finds a valid one whole,
and no JSON.
"""

import pathlib
import re
import socket
import sys
import types

# Answers that say a request was not one, as opposed to not found or not allowed.
REFUSALS = {400, 408, 411, 413, 414, 417, 431, 501, 505}
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Last: 1\r\nConnection: close\r\n\r\n"
INGEST = b"POST /api/metrics "
TIMEOUT_S = 20


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    corpus = pathlib.Path(sys.argv[2])
    paths = sorted(corpus.glob("invalid/*.http")) + sorted(corpus.glob("valid/*.http"))
    for path in paths:
        name = f"{path.parent.name}/{path.stem}"
        request, switches = expectation(path)
        data = unescape(path.read_bytes())
        for variant, data in variants(data):
            answers = exchange((host, int(port)), data + LAST)
            judge = judge_valid if path.parent.name == "valid" else judge_invalid
            verdict = judge(answers, request, variant)
            note = f" [{' '.join(switches)}]" if switches else ""
            print(f"{name}{variant}\t{verdict}\t{' '.join(shown(answers))}{note}")


def unescape(data):
    """The corpus writes line ends and odd bytes as escapes; its real line ends mean nothing."""
    data = data.replace(b"\n", b"")
    for escape, byte in ((b"\\r\\n", b"\r\n"), (b"\\0", b"\0"), (b"\\n", b"\n"), (b"\\t", b"\t")):
        data = data.replace(escape, byte)
    return re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), data)


def expectation(path):
    """What the case's .py says: its requests, and the switches of gunicorn's own that it sets."""
    switches = []

    class Config:
        def set(self, name, value):
            switches.append(f"{name}={value}")

    stubs = {"gunicorn.config": {"Config": Config}}
    text = path.with_suffix(".py").read_text()
    for module, name in re.findall(r"^from (gunicorn[\w.]*) import (\w+)", text, re.M):
        stubs.setdefault(module, {}).setdefault(name, type(name, (Exception,), {}))
    for module in ["gunicorn", "gunicorn.http", *stubs]:
        sys.modules[module] = types.ModuleType(module)
        sys.modules[module].__dict__.update(stubs.get(module, {}))
    scope = {"uri": lambda text: text, "cfg": Config()}
    exec(compile(text, str(path), "exec"), scope)
    request = scope["request"]
    return request if isinstance(request, list) else [request], switches


def variants(data):
    yield "", data
    with_host = re.sub(
        rb"(?m)(?<![^\n])([!-~]+ [^\r\n]* HTTP/1\.1\r\n)", rb"\1Host: localhost\r\n", data
    )
    lacks = not re.search(rb"(?im)^host:", data)
    if lacks and with_host != data:
        yield "+host", with_host
        data = with_host
    if re.search(rb"(?im)^(content-length: *[1-9]|transfer-encoding:)", data):
        yield "+ingest", re.sub(rb"^(?:GET|POST|PUT) [^\r\n]* (?=HTTP/1\.)", INGEST, data)


def exchange(address, data):
    """The answers to these bytes, each (status, reason, closes); None is the server's end."""
    received = b""
    with socket.create_connection(address, timeout=TIMEOUT_S) as stream:
        try:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            while piece := stream.recv(1 << 16):
                received += piece
        except ConnectionError:
            pass
        except TimeoutError:
            return parse(received) + [(0, "hangs", False)]
    return parse(received)


def parse(received):
    answers = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        length = re.search(rb"(?im)^content-length: (\d+)", head)
        body = rest[: int(length[1])] if length else b""
        received = rest[len(body) :]
        reason = re.search(rb'"reason":"(\w+)"', body)
        answers.append((status, reason[1].decode() if reason else "", b"Connection: close" in head))
    return answers


def shown(answers):
    return [f"{status}{':' if reason else ''}{reason}" for status, reason, _ in answers] or ["end"]


def judge_invalid(answers, request, variant):
    """An end without an answer is what a request that never came whole gets."""
    if not answers:
        return "pass" if request[0].__name__ == "NoMoreData" else "FAIL"
    status, _, closes = answers[0]
    return "pass" if len(answers) == 1 and status in REFUSALS and closes else "FAIL"


def judge_valid(answers, request, variant):
    statuses = [status for status, _, _ in answers]
    if variant == "+ingest":
        reasons = [reason for _, reason, _ in answers]
        return "pass" if reasons[:1] in (["json_syntax"], ["shape"], ["media_type"]) else "FAIL"
    closes = answers[len(request) - 1 : len(request)]
    closes = bool(closes) and closes[0][2]
    taken = len(answers) == len(request) + (not closes)
    last = closes or statuses[-1:] == [200]
    return "pass" if taken and last and not REFUSALS & set(statuses) else "FAIL"


main()
