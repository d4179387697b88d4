//! Any body taken as lines: the decoder and the reference on `serde_json` say the same. And a
//! WebSocket message is one document, or else its lines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::decode::reference::{compare, contents};
use tidewall::decode::{Batch, json, message, ndjson};

const NOW_MS: i64 = 1_763_918_083_000;

fuzz_target!(|body: &[u8]| {
    compare(body, NOW_MS, true);

    let mut lines = Batch::new();
    let as_lines = ndjson::decode(body, NOW_MS, &mut lines);
    let mut warm = Batch::new();
    for before in [&body[..body.len() / 2], &body[body.len() / 2..], body] {
        let _ = ndjson::decode(before, NOW_MS, &mut warm);
    }
    assert_eq!(ndjson::decode(body, NOW_MS, &mut warm), as_lines);
    assert_eq!(contents(&warm, body), contents(&lines, body));

    let mut whole = Batch::new();
    let as_json = json::decode(body, NOW_MS, &mut whole);
    let begins_document = body.trim_ascii_start().starts_with(b"{");
    let has_more = as_json.is_err_and(|fault| fault.reason() == "json_trailing");
    let (expected, batch) = if has_more && begins_document {
        (as_lines, &lines)
    } else {
        (as_json, &whole)
    };
    assert_eq!(message(body, NOW_MS, &mut warm), expected);
    assert_eq!(contents(&warm, body), contents(batch, body));
});
