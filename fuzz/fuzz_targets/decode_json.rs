//! A body that we take is JSON by serde_json's reading too, and a body that is not JSON is never
//! taken; a refusal for syntax means that serde_json refuses as well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::decode::fault::FaultKind;
use tidewall::decode::{Batch, json};

const NOW_MS: i64 = 1_763_918_083_000;

fuzz_target!(|body: &[u8]| {
    let mut batch = Batch::new();
    let decoded = json::decode(body, NOW_MS, &mut batch);
    let oracle = serde_json::from_slice::<serde_json::Value>(body);
    match decoded {
        Ok(()) => {
            assert!(oracle.is_ok(), "taken, yet not JSON: {oracle:?}");
            assert!(
                batch
                    .docs()
                    .iter()
                    .all(|doc| !batch.text(body, doc.host).is_empty())
            );
            let points = batch.docs().iter().flat_map(|doc| batch.points(doc));
            assert!(points.into_iter().all(|point| point.value.is_finite()));
        }
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            assert_eq!(batch.samples(), 0, "a refused batch leaves nothing behind");
            if oracle.is_err() {
                return;
            }
            // JSON to serde_json: then ours must not be a refusal for syntax, but for the limits
            // that only we have, on depth and on numbers out of range.
            let text = fault.to_string();
            let ours = ["deep", "depth", "range", "large", "finite", "big"];
            let limit = ours.iter().any(|word| text.contains(word));
            assert!(fault.kind() != FaultKind::Syntax || limit, "{text}");
        }
    }
});
