#!/usr/bin/env python3
"""cluster.py [latency|faults|failover|cost|agreement]...: nodes joined through a Redis of this run's own.

latency    POST on one node to a frame on another, 300 times at random moments, tick 100 ms
faults     how soon others say that somebody is missing, and how soon after its return all is whole
failover   the same when Redis dies and its replica takes over, which the nodes' URL names second
cost       CPU and bytes of 100,000 values a second, on the node that has them and on one that hears
agreement  9,999 servers on three nodes: whether all show the same to the last value

RUNS is how often each fault is made (10), OUTAGE how many seconds it lasts at least (4).
BIN is the program; FLEET, if given, another build of it for the load. Standard library only.
"""
import base64
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

BIN = os.environ.get("BIN", "target/release/tidewall")
FLEET = os.environ.get("FLEET", BIN)
RUNS = int(os.environ.get("RUNS", "10"))
OUTAGE = float(os.environ.get("OUTAGE", "4"))
METRICS = ["cpu", "mem", "net.rx"]
HOSTS = 10


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, done, patience=30.0, step=0.005):
    """Seconds until it is so."""
    begun = time.monotonic()
    while not done():
        if time.monotonic() - begun > patience:
            raise SystemExit(f"waited {patience:.0f} s for {what}")
        time.sleep(step)
    return time.monotonic() - begun


# Every process of this run, to be ended with it.
started = []


def spawn(command, **streams):
    process = subprocess.Popen(command, **streams)
    started.append(process)
    return process


def end_all():
    for process in started:
        process.kill()
        process.wait()
    started.clear()


class Redis:
    def __init__(self, primary=None):
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory()
        self.more = ["--replicaof", "127.0.0.1", str(primary.port)] if primary else []
        self.start()

    def start(self):
        command = ["redis-server", *self.more, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", self.folder.name]
        self.process = spawn(command, stdout=subprocess.DEVNULL)
        until("Redis", self.answers)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def say(self, words):
        with socket.create_connection(("127.0.0.1", self.port), 1) as link:
            link.sendall(words.encode() + b"\r\n")
            return link.recv(1024)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, number):
        self.process.send_signal(number)


class Proxy:
    """A way to Redis that can stop to forward, and nobody hears of it."""

    def __init__(self, port):
        self.to, self.cut = port, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                client.close()
                continue
            for ends in [(client, server), (server, client)]:
                ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.pump, args=ends, daemon=True).start()

    def pump(self, source, sink):
        try:
            while data := source.recv(65536):
                if not self.cut:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Node:
    def __init__(self, name, redis_port, cores=1, others=""):
        self.name, self.redis_port, self.cores = name, redis_port, cores
        self.others = others
        self.start()

    def start(self):
        command = [BIN, "serve", "--listen", "127.0.0.1:0", "--cores", str(self.cores), "--no-pin"]
        command += ["--history", "none", "--node", self.name]
        command += ["--redis", f"redis://127.0.0.1:{self.redis_port}{self.others}"]
        self.process = spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = self.process.stdout.readline().decode().strip()
        self.url = line.removeprefix("listening on ").rstrip("/")
        self.port = int(self.url.rsplit(":", 1)[1])
        self.link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        until("readiness", lambda: self.get("/readyz")[0] == 200)

    def get(self, target):
        self.link.request("GET", target)
        answer = self.link.getresponse()
        return answer.status, answer.read()

    def ask(self, target):
        status, body = self.get(target)
        return json.loads(body) if status == 200 else None

    def metric(self, name):
        lines = self.get("/metrics")[1].decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines
                   if line.split("{")[0].split(" ")[0] == f"tidewall_{name}")

    def partial(self):
        return "partial" in self.ask("/api/snapshot")["flags"]

    def cause(self, host):
        shown = self.ask(f"/api/snapshot?kind=host&host={host}")
        return shown and shown["host"].get("cause")

    def cells(self, metrics):
        found = {}
        for metric in metrics:
            name = urllib.parse.quote(metric)
            shown = self.ask(f"/api/snapshot?kind=map&metric={name}") or {"hosts": []}
            found.update({(row[1], metric): row[2] for row in shown["hosts"]})
        return found

    def states(self):
        shown = self.ask(f"/api/snapshot?kind=map&metric={METRICS[0]}")
        return {row[1]: row[3] for row in shown["hosts"]}

    def end(self):
        self.process.kill()
        self.process.wait()


class Viewer(threading.Thread):
    """Reads the frames of the default view, one a tick, without a word."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.seen = {}
        self.stream = socket.create_connection(("127.0.0.1", node.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.stream.sendall(
            f"GET /api/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        self.file = self.stream.makefile("rb")
        while self.file.readline() != b"\r\n":
            pass
        self.start()

    def run(self):
        while head := self.file.read(2):
            length = head[1] & 127
            if length > 125:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
            body, now = self.file.read(length), time.monotonic()
            if head[0] & 15 == 9:
                self.stream.sendall(bytes([0x8A, 0x80 | len(body), 0, 0, 0, 0]) + body)
            elif head[0] & 15 == 1 and (probe := json.loads(body)["metrics"].get("probe")):
                self.seen.setdefault(probe["max"], now)


class Traffic(threading.Thread):
    """Hosts of one node that send all the time; a node that is away costs them samples."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.round, self.going, self.cells, self.slowest = node, 0, True, {}, 0.0
        self.start()

    def run(self):
        while self.going:
            self.send()
            time.sleep(0.1)

    def send(self):
        self.round += 1
        docs, cells = [], {}
        for at in range(HOSTS):
            host = f"{self.node.name}-{at}"
            values = {metric: self.round + at / 10 for metric in METRICS}
            docs.append({"host": host, "metrics": values})
            cells.update({(host, metric): value for metric, value in values.items()})
        begun = time.monotonic()
        try:
            link = http.client.HTTPConnection("127.0.0.1", self.node.port, timeout=30)
            link.request("POST", "/api/metrics", json.dumps(docs))
            if link.getresponse().status == 201:
                self.cells = cells
                self.slowest = max(self.slowest, time.monotonic() - begun)
        except OSError:
            pass

    def stop(self):
        self.going = False
        self.join()


def quantiles(values):
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))] * 1000
    return f"median {at(.5):.0f} p95 {at(.95):.0f} p99 {at(.99):.0f} max {values[-1] * 1000:.0f} ms"


def whole(nodes):
    def peers(node):
        told = node.ask("/api/nodes")
        return told["linked"] and sum(p["state"] == "reachable" for p in told["peers"])
    until("nodes that hear each other",
          lambda: all(peers(node) == len(nodes) - 1 and not node.partial() for node in nodes))


def latency():
    redis = Redis()
    a, b = Node("a", redis.port), Node("b", redis.port)
    whole([a, b])
    views = {"one node": Viewer(a), "another": Viewer(b)}
    sent = {}
    link = http.client.HTTPConnection("127.0.0.1", a.port)
    for value in range(1, 301):
        time.sleep(0.05 + random.random() * 0.3)
        sent[value] = time.monotonic()
        link.request("POST", "/api/metrics", f'{{"host":"p","metrics":{{"probe":{value}}}}}')
        assert link.getresponse().read()
    time.sleep(2)
    for where, viewer in views.items():
        took = [viewer.seen[value] - at for value, at in sent.items() if value in viewer.seen]
        print(f"POST on one node to a frame on {where}: {quantiles(took)}, {len(took)} of 300")
    end_all()


def fault(name, nodes, begin, come_back, missing, seers):
    """One outage; how long until each seer was told, until all is whole."""
    traffic = [Traffic(node) for node in nodes]
    time.sleep(1 + random.random())
    begun = time.monotonic()
    begin()
    told, marked = {}, {}

    def look():
        for seer in seers:
            now = time.monotonic() - begun
            if seer not in told and seer.partial():
                told[seer] = now
            hosts = [f"{node}-0" for node in missing if node != seer.name]
            if seer not in marked and all(seer.cause(host) for host in hosts):
                marked[seer] = now
        return len(told) == len(marked) == len(seers)
    until(f"{name} to be told", look, step=0.002)
    time.sleep(max(0, OUTAGE - (time.monotonic() - begun)))
    for one in traffic:
        one.stop()
    back = time.monotonic()
    come_back()
    for one in traffic:
        # Those whose node was away; the others' last words must come through as they are.
        if one.node.name in missing and len(missing) == 1:
            one.send()
    cells = {key: value for one in traffic for key, value in one.cells.items()}
    agree = lambda: all(node.cells(METRICS) == cells and not node.partial() for node in nodes)
    until(f"the end of {name}", agree)
    whole_after = time.monotonic() - back
    slowest = max(one.slowest for one in traffic)
    return max(told.values()), max(marked.values()), whole_after, slowest


def faults():
    redis = Redis()
    proxy = Proxy(redis.port)
    a, b, c = Node("a", redis.port), Node("b", redis.port), Node("c", proxy.port)
    nodes = [a, b, c]

    def cut(is_cut):
        proxy.cut = is_cut
    every = ["a", "b", "c"]
    cases = {
        "Redis killed, started empty": (redis.kill, redis.start, every, nodes),
        f"Redis stopped for {OUTAGE:.0f} s": (lambda: redis.signal(signal.SIGSTOP),
                                  lambda: redis.signal(signal.SIGCONT), every, nodes),
        "a node killed and started": (c.end, c.start, ["c"], [a, b]),
        "a node cut off": (lambda: cut(True), lambda: cut(False), ["c"], [a, b]),
    }
    for name, (begin, come_back, missing, seers) in cases.items():
        took = []
        for _ in range(RUNS):
            whole(nodes)
            took.append(fault(name, nodes, begin, come_back, missing, seers))
        tell(name, took)
    end_all()


def tell(name, took):
    told, marked, back, slowest = (max(column) for column in zip(*took))
    print(f"{name}, worst of {len(took)}: partial after {told:.2f} s, hosts marked after "
          f"{marked:.2f} s, whole {back:.2f} s after its return, slowest POST "
          f"{slowest * 1000:.0f} ms")
    print("  whole after, each: " + " ".join(f"{run[2]:.2f}" for run in took), flush=True)


def failover():
    took = []
    for _ in range(RUNS):
        primary = Redis()
        replica = Redis(primary)
        until("the replica", lambda: b"master_link_status:up" in replica.say("INFO replication"))
        others = f",127.0.0.1:{replica.port}"
        nodes = [Node(name, primary.port, others=others) for name in "ab"]
        whole(nodes)
        took.append(fault("a failover", nodes, primary.kill,
                          lambda: replica.say("REPLICAOF NO ONE"), ["a", "b"], nodes))
        end_all()
    tell(f"Redis killed, its replica made primary {OUTAGE:.0f} s later", took)


def fleet(node, *flags):
    command = [FLEET, "fleet", "--to", node.url, *flags]
    return spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def cost():
    redis = Redis()
    a, b = Node("a", redis.port), Node("b", redis.port)
    whole([a, b])
    load = fleet(a, "--servers", "10000", "--viewers", "0", "--for", "40s", "--every", "1s")
    names = ["cpu_microseconds_total", "sent_bytes_total", "keyframe_bytes_total",
             "cells_sent_total", "received_bytes_total", "cells_received_total",
             "keyframes_stored_total", "messages_sent_total", "samples_lost_total",
             "inbox_dropped_total"]
    read = lambda node: {name: node.metric(f"cluster_{name}") for name in names}
    until("the fleet", lambda: a.metric("cluster_cells_sent_total") > 500_000, 60)
    before, begun = (read(a), read(b)), time.monotonic()
    time.sleep(20)
    seconds = time.monotonic() - begun
    gained = [{name: now[name] - was[name] for name in names}
              for was, now in zip(before, (read(a), read(b)))]
    sender, hearer = gained
    sent = sender["sent_bytes_total"] + sender["keyframe_bytes_total"]
    cells = sender["cells_sent_total"]
    print(f"sender: {cells / seconds:,.0f} cells/s, CPU "
          f"{sender['cpu_microseconds_total'] / seconds / 1000:.1f} ms/s, {sent / cells:.2f} B a "
          f"cell of which keyframes {sender['keyframe_bytes_total'] / cells:.2f}, "
          f"{sender['messages_sent_total'] / seconds:.1f} messages/s, "
          f"lost {sender['samples_lost_total']:.0f}")
    print(f"receiver: {hearer['cells_received_total'] / seconds:,.0f} cells/s, CPU "
          f"{hearer['cpu_microseconds_total'] / seconds / 1000:.1f} ms/s, "
          f"{hearer['received_bytes_total'] / hearer['cells_received_total']:.2f} B a cell, "
          f"dropped {hearer['inbox_dropped_total']:.0f}")
    load.wait()
    end_all()


def agreement():
    redis = Redis()
    nodes = [Node(name, redis.port) for name in "abc"]
    whole(nodes)
    folder = tempfile.TemporaryDirectory()
    loads = [fleet(node, "--servers", "3333", "--viewers", "5", "--for", "20s", "--prefix",
                   f"{node.name}-", "--report", f"{folder.name}/{node.name}") for node in nodes]
    for load in loads:
        load.communicate()
    ended = time.monotonic()
    names = list(nodes[0].ask("/api/snapshot")["metrics"])

    def agree():
        found = [node.cells(names) for node in nodes]
        return found[0] == found[1] == found[2] and found[0]
    until("agreement", agree, 20)
    cells = agree()
    states = until("the same states", lambda: len({json.dumps(node.states(), sort_keys=True)
                                                   for node in nodes}) == 1, 60)
    requests = [json.load(open(f"{folder.name}/{node.name}"))["requests"] for node in nodes]
    intended, answered = (sum(one[key] for one in requests) for key in ("intended", "acknowledged"))
    print(f"{intended:,} POSTs, {answered:,} acknowledged")
    hosts = len({host for host, _ in cells})
    print(f"{hosts:,} hosts, {len(cells):,} cells equal on three nodes "
          f"{time.monotonic() - ended - states:.2f} s after the fleets ended; states {states:.2f} s "
          f"later; errors of links: {sum(n.metric('cluster_link_errors_total') for n in nodes):.0f}")
    end_all()


try:
    for part in sys.argv[1:] or ["latency", "faults", "failover", "cost", "agreement"]:
        print(f"== {part}, load {os.getloadavg()[0]:.1f} before", flush=True)
        {"latency": latency, "faults": faults, "failover": failover, "cost": cost,
         "agreement": agreement}[part]()
finally:
    end_all()
