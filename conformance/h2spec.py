#!/usr/bin/env python3
"""h2spec.py H2SPEC ADDRESS FLAG...: runs h2spec, all its strict cases, and lists their outcomes."""

import collections
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

# Waits for bodies, so that what follows a head is looked at; others answer by the head alone.
PATH = "/api/metrics"


def main():
    tool, address, *flags = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = [tool, "-S", "-h", host, "-p", port, "-P", PATH, "-o", "5", "-j", report, *flags]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900)
        if not report.exists():
            sys.exit(run.stdout)
        tree = xml.etree.ElementTree.parse(report)
    numbers = collections.Counter()
    for case in tree.iter("testcase"):
        package = case.get("package")
        numbers[package] += 1
        outcome, detail = judge(case)
        name = f"{package}/{numbers[package]} {case.get('classname')}"
        print("\t".join(filter(None, [name, outcome, detail])))


def judge(case):
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            actual = re.search(r"Actual: *(.*)", "".join(found.itertext()), re.S)
            detail = actual[1] if actual else "".join(found.itertext())
            return "FAIL", " ".join(re.sub(r"length:\d+, ", "", detail).split())
    return ("skip" if case.find("skipped") is not None else "pass"), ""


main()
