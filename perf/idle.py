#!/usr/bin/env python3
"""User memory of an idle keep-alive connection.

    perf/idle.py target/release/tidewall [CONNECTIONS]

Starts a node, opens the connections, has each POST once, and reads RssAnon before and after. Fails
past 2,048 bytes a connection. Loopback only, ends by itself.
"""

import resource
import socket
import subprocess
import sys
import time

BOUND = 2048
BODY = b'{"server_id":1,"metric_type":"cpu","value":53.2,"unit":"%"}'
POST = (
    b"POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


def rss_anon(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon")


def connect(address, count):
    sockets = []
    for _ in range(count):
        sock = socket.create_connection(address)
        sock.sendall(POST)
        sockets.append(sock)
    for sock in sockets:
        answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 201"), answer
    return sockets


def main():
    binary, count = sys.argv[1], int((sys.argv[2:] or ["10000"])[0])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--cores", "2", "--no-pin"]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = node.stdout.readline().split()[-1]
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        address = (host, int(port))
        # What a first few connections warm up is no cost of the others.
        warm = connect(address, 100)
        time.sleep(2)
        before = rss_anon(node.pid)
        held = connect(address, count)
        time.sleep(5)
        after = rss_anon(node.pid)
    finally:
        node.terminate()
        node.wait(10)
    each = (after - before) / len(held)
    print(f"{len(held)} idle connections beside {len(warm)}: RssAnon {before} -> {after}")
    print(f"{each:.0f} bytes a connection, bound {BOUND}")
    sys.exit(each > BOUND)


main()
