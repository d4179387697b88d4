#!/usr/bin/env python3
"""What viewers that never read cost the node and the others.

    perf/frozen.py target/release/tidewall [VIEWERS [FROZEN [SECONDS]]]

One run without frozen viewers, one with them; RssAnon each second, and the fleet's own report of
what the healthy viewers saw. Fails when a healthy viewer missed a frame, when memory grows after the
first ten seconds, or when a frozen viewer costs 64 KiB. Loopback only, ends by itself.
"""

import json
import subprocess
import sys
import tempfile
import time

BOUND = 64 * 1024


def rss_anon(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon")


def run(binary, viewers, frozen, seconds):
    command = [binary, "serve", "--listen", "127.0.0.1:0", "--cores", "2", "--no-pin"]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    url = node.stdout.readline().split()[-1]
    with tempfile.NamedTemporaryFile() as report:
        load = [binary, "fleet", "--to", url, "--servers", "1000", "--viewers", str(viewers)]
        load += ["--frozen-viewers", str(frozen), "--for", f"{seconds}s", "--report", report.name]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        fleet = subprocess.Popen(load, **quiet)
        curve = []
        while fleet.poll() is None:
            curve.append(rss_anon(node.pid))
            time.sleep(1)
        node.terminate()
        node.wait(10)
        return curve, json.load(open(report.name)), fleet.returncode


def main():
    binary = sys.argv[1]
    given = [int(number) for number in sys.argv[2:]]
    viewers, frozen, seconds = (given + [500, 100, 60][len(given) :])[:3]
    bad = False
    peaks = []
    for count in (0, frozen):
        curve, report, code = run(binary, viewers, count, seconds)
        settled, last = max(curve[8:14]), max(curve[-5:])
        peaks.append(max(curve[8:25]))
        print(f"{viewers} viewers, {count} frozen, {seconds} s: fleet exit code {code}")
        print("  RssAnon KiB, each second:", " ".join(str(b // 1024) for b in curve))
        print("  viewers:", json.dumps(report["viewers"]))
        print(f"  after ten seconds {settled // 1024} KiB, at the end {last // 1024} KiB")
        bad |= code != 0 or settled * 1.05 < last
    each = (peaks[1] - peaks[0]) / max(frozen, 1)
    print(f"{each:.0f} bytes a frozen viewer, bound {BOUND}")
    sys.exit(bad or each > BOUND)


main()
