#!/usr/bin/env python3
"""json_parsing.py ADDRESS FILES: posts each file of JSONTestSuite as a body.

A body that is not JSON is refused with 400 `json_syntax`. One that is JSON, but no document of ours,
gets any other answer: syntax is looked at in the whole body before anything else is said of it. So
the answer says what the decoder holds the body for. `y_` must be JSON, `n_` must not, `i_` may.
"""

import http.client
import json
import pathlib
import sys


def main():
    connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
    for path in sorted(pathlib.Path(sys.argv[2]).glob("[yni]_*.json")):
        body = path.read_bytes()
        fields = {"Content-Type": "application/json"}
        connection.request("POST", "/api/metrics", body, fields)
        response = connection.getresponse()
        answer = json.loads(response.read())
        reason = answer.get("reason", "")
        is_json = (response.status, reason) != (400, "json_syntax")
        if is_json and response.status not in (200, 202, 204, 422):
            sys.exit(f"   {path.name}: {response.status} {answer}")
        found = "JSON" if is_json else "not JSON"
        wanted = {"y": is_json, "n": not is_json, "i": True}[path.name[0]]
        print(f"{path.stem}\t{'pass' if wanted else 'FAIL'}\t{found}")


main()
