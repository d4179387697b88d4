//! Any body: the decoder and the reference on `serde_json` say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::decode::reference::compare;

const NOW_MS: i64 = 1_763_918_083_000;

fuzz_target!(|body: &[u8]| compare(body, NOW_MS, false));
