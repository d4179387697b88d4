#!/usr/bin/env python3
"""compare.py NAME RESULTS: holds a run's outcomes against those frozen in expected/NAME.txt.

A line is a case: its id, its outcome, maybe a detail, with tabs between. A difference in either
direction fails. Each case that is no plain pass has its argument in exceptions.txt, and each argument
there has its case.

A case whose end is a race that the RFC leaves open is frozen as `varies`, with each outcome it may
have. BLESS=1 writes the run down; BLESS=varies adds what differs to the outcomes a case may have.
"""

import difflib
import os
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
OR = " | or: "


def main():
    name, results = sys.argv[1], pathlib.Path(sys.argv[2])
    suite = name.split("-")[0]
    expected = HERE / "expected" / f"{name}.txt"
    run = read(results)
    frozen = read(expected) if expected.exists() else {}
    passed = sum(rest[0] == "pass" for rest in run.values())
    bless = os.environ.get("BLESS")
    for case, rest in frozen.items():
        if case in run:
            run[case] = settle(rest, run[case], bless == "varies")
    if bless:
        expected.write_text("".join(lines(run)))
        frozen = run
    print(f"   {name}: {passed} of {len(run)} pass, the others are argued or listed below")
    diff = list(difflib.unified_diff(lines(frozen), lines(run), "expected", "found", n=0))
    sys.stdout.writelines(diff)
    faults = unargued(name, suite, frozen)
    sys.stdout.writelines(f"   {fault}\n" for fault in faults)
    return 1 if diff or faults or not run else 0


def read(path):
    cases = {}
    for line in path.read_text().splitlines():
        case, *rest = line.split("\t")
        if case in cases:
            sys.exit(f"   {path.name}: two outcomes for {case}")
        cases[case] = rest
    return dict(sorted(cases.items(), key=lambda item: natural(item[0])))


def settle(frozen, found, more):
    """What is frozen, if what was found is one of its outcomes."""
    known = frozen[1].split(OR) if frozen[0] == "varies" else [" ".join(frozen)]
    outcome = " ".join(found)
    if more and outcome not in known:
        return ["varies", OR.join(sorted([*known, outcome]))]
    return frozen if outcome in known else found


def natural(case):
    """10.1 after 9.1."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", case)]


def lines(cases):
    return ["\t".join([case, *rest]) + "\n" for case, rest in cases.items()]


def unargued(name, suite, frozen):
    """Exceptions are shared by the ways one suite is run: over TCP, TLS, HTTP/2."""
    argued = {}
    for line in (HERE / "exceptions.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            of, case, reason = line.split("\t")
            if of == suite and reason:
                argued[case] = reason
    odd = {case for case, rest in frozen.items() if rest[0] != "pass"}
    others = (HERE / "expected").glob(f"{suite}*.txt")
    known = {case for path in others for case, rest in read(path).items() if rest[0] != "pass"}
    faults = [f"{name}: no argument in exceptions.txt for {case}" for case in sorted(odd - set(argued))]
    return faults + [f"exceptions.txt: {suite} {case} passes" for case in sorted(set(argued) - known)]


sys.exit(main())
