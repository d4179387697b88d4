#!/usr/bin/env python3
"""httpwg.py HTTPWG ADDRESS: runs httpwg-cli, one case after the other, and lists the outcomes."""

import os
import re
import subprocess
import sys


def main():
    tool, address = sys.argv[1:]
    # The defaults of 250 ms fail on a busy machine. All at once, its own reads give up under load.
    flags = ["-v", "--frame-timeout", "1000", "--connect-timeout", "1000"]
    run = subprocess.run(
        [tool, *flags, "-a", address],
        env={**os.environ, "SEQUENTIAL": "1", "RUST_BACKTRACE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout)
    cases = re.split(r"Running test: RFC 9113 :: (.*)\n", text)[1:]
    total = re.search(r"Passed \d+/(\d+) tests", text)
    if not total or len(cases) != 2 * int(total[1]):
        sys.exit(text)
    for name, said in zip(cases[::2], cases[1::2]):
        print("\t".join([name, *judge(said)]))


def judge(said):
    if "Test passed:" in said:
        return ["pass"]
    why = re.search(r"^ +0: (.*)$|^Message: +(.*\n(?:  left.*\n right.*\n)?)", said, re.M)
    why = " ".join((why[1] or why[2]).split()) if why else "?"
    # Bit patterns and lengths say nothing that the names beside them do not.
    why = re.sub(r"BitFlags<\w+>\(0b\d+, ([^)]*)\)", r"\1", why)
    return ["FAIL", re.sub(r"len: \d+(, )?", "", why)]


main()
