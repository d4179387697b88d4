//! Lines mean what their documents mean one by one: taken whole exactly if every line is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::decode::{Batch, json, ndjson};

const NOW_MS: i64 = 1_763_918_083_000;

fuzz_target!(|body: &[u8]| {
    let (mut lines, mut single) = (Batch::new(), Batch::new());
    let taken = ndjson::decode(body, NOW_MS, &mut lines).is_ok();
    let (mut samples, mut all, mut documents) = (0, true, 0);
    for line in body.split(|&byte| byte == b'\n') {
        let blank = line.iter().all(|byte| b" \t\r".contains(byte));
        if blank {
            continue;
        }
        documents += 1;
        let is_document = line.trim_ascii_start().first() == Some(&b'{');
        all &= is_document && json::decode(line, NOW_MS, &mut single).is_ok();
        samples += single.samples();
    }
    if taken {
        assert!(all && 0 < documents);
        assert_eq!(lines.samples(), samples);
    } else {
        assert!(!all || documents == 0);
    }
});
