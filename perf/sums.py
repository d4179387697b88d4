#!/usr/bin/env python3
"""sums.py SUMS STORE: what a fleet sent (`tidewall fleet --sums SUMS`) against what history has.

STORE is a history directory, or `-` for lines of host, metric, count and sum on standard input, as
any other database gives them. Counts must be equal, sums to nine digits: they were added in another
order. Exit code 1 when anything differs.
"""
import glob
import os
import sqlite3
import sys


def read(lines):
    rows = (line.rstrip("\n").split("\t") for line in lines)
    return {(host, metric): (int(count), float(total)) for host, metric, count, total in rows}


def stored(directory):
    found = {}
    points = rows = size = 0
    for path in sorted(glob.glob(os.path.join(directory, "day-*.db"))):
        day = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        sums = """SELECT series.host, metrics.name, sum(count), sum(sum) FROM minutes
                  JOIN series ON series.key = minutes.series
                  JOIN metrics ON metrics.key = series.metric GROUP BY series"""
        for host, metric, count, total in day.execute(sums):
            before = found.get((host, metric), (0, 0.0))
            found[host, metric] = (before[0] + count, before[1] + total)
        of_day = day.execute("SELECT count(*), sum(length(points)) FROM minutes").fetchone()
        rows, points = rows + of_day[0], points + of_day[1]
        size += os.path.getsize(path)
    samples = sum(count for count, _ in found.values())
    print(f"{rows:,} rows, {samples:,} samples: {points / samples:.2f} B a sample in points,"
          f" {size / samples:.2f} B in files")
    return found


sent = read(open(sys.argv[1], encoding="utf-8"))
has = read(sys.stdin) if sys.argv[2] == "-" else stored(sys.argv[2])
wrong = [
    f"{host} {metric}: sent {sent.get(key)}, stored {has.get(key)}"
    for key in sorted(sent.keys() | has.keys())
    for host, metric in [key]
    if key not in sent or key not in has or sent[key][0] != has[key][0]
    or abs(sent[key][1] - has[key][1]) > 1e-9 * max(1.0, abs(sent[key][1]))
]
print(f"{len(sent):,} series sent, {len(has):,} stored, {len(wrong):,} differ")
print("\n".join(wrong[:20]))
sys.exit(bool(wrong))
