//! Any body: the decoder and the reference on `serde_json` say the same, whatever a batch held
//! before and whatever the clock says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::decode::fault::FaultKind;
use tidewall::decode::reference::{compare, contents};
use tidewall::decode::{Batch, json};
use tidewall::limits::FUTURE_MS_MAX;

const NOW_MS: i64 = 1_763_918_083_000;
const END_OF_TIME_MS: i64 = i64::MAX - FUTURE_MS_MAX;

fuzz_target!(|body: &[u8]| {
    compare(body, NOW_MS, false);
    compare(body, END_OF_TIME_MS, false);

    let mut fresh = Batch::new();
    let decoded = json::decode(body, NOW_MS, &mut fresh);
    let mut warm = Batch::new();
    for before in [&body[..body.len() / 2], &body[body.len() / 2..], body] {
        let _ = json::decode(before, NOW_MS, &mut warm);
    }
    assert_eq!(json::decode(body, NOW_MS, &mut warm), decoded);
    assert_eq!(contents(&warm, body), contents(&fresh, body));

    let later = json::decode(body, END_OF_TIME_MS, &mut warm);
    match decoded {
        Ok(()) => assert_eq!(
            (later, contents(&warm, body)),
            (Ok(()), contents(&fresh, body))
        ),
        Err(fault) if fault.kind() == FaultKind::Future => assert_ne!(later, decoded),
        Err(_) => assert_eq!(later, decoded),
    }
});
