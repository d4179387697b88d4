#!/usr/bin/env python3
"""Writes the bodies of tests/vectors to the corpora of the decode targets."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
for target in ("decode_json", "decode_ndjson"):
    corpus = HERE / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for kind in ("good", "bad"):
        path = HERE.parent / "tests" / "vectors" / f"ingest_{kind}.json"
        for number, vector in enumerate(json.loads(path.read_text())):
            if "content_encoding" in vector:
                continue
            hexadecimal = vector.get("body_hex")
            body = bytes.fromhex(hexadecimal) if hexadecimal else vector["body"].encode()
            (corpus / f"{kind}_{number:03}").write_bytes(body)
