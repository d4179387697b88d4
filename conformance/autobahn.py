#!/usr/bin/env python3
"""autobahn.py PYTHON2 PACKAGES URL FOLDER: runs Autobahn's fuzzing client, lists the outcomes.

Sections 12 and 13 are left out: they test permessage-deflate, which the server never negotiates.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

# Packages stand in a folder of their own; only a site folder gets its .pth files read.
LAUNCH = """
import site, sys
site.addsitedir(sys.argv.pop(1))
from autobahntestsuite.wstest import run
run()
"""
CASES = 301


def main():
    python2, packages, url, folder = sys.argv[1:]
    shutil.rmtree(folder, ignore_errors=True)
    pathlib.Path(folder).mkdir()
    plan = pathlib.Path(folder) / "plan.json"
    plan.write_text(
        json.dumps(
            {
                "outdir": folder,
                "servers": [{"agent": "echo", "url": url}],
                "cases": ["*"],
                "exclude-cases": ["12.*", "13.*"],
                "exclude-agent-cases": {},
            }
        )
    )
    command = [python2, "-c", LAUNCH, packages, "-m", "fuzzingclient", "-s", str(plan)]
    said = watch(command)
    index = pathlib.Path(folder) / "index.json"
    if not index.exists():
        sys.exit("\n".join(said[-40:]))
    outcomes = json.loads(index.read_text())["echo"]
    if len(outcomes) != CASES:
        sys.exit(f"   {len(outcomes)} cases were run instead of {CASES}")
    for case, outcome in outcomes.items():
        print("\t".join([case, *judge(outcome)]))


def watch(command):
    """Shows which section is being run."""
    said, section = [], ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        for line in run.stdout:
            said.append(line.rstrip())
            if (at := re.match(r"Running test case ID (\d+)\.", line)) and at[1] != section:
                section = at[1]
                print(f"   section {section}", file=sys.stderr)
    return said


def judge(outcome):
    ways = outcome["behavior"], outcome["behaviorClose"]
    if ways == ("OK", "OK"):
        return ["pass"]
    return [ways[0].lower(), f"close {ways[1].lower()} {outcome['remoteCloseCode']}"]


main()
