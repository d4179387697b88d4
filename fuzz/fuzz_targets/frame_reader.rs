//! Frames from anybody: a reader never panics, and what it applies it can apply again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::frame::reader::{Picture, parse};

fuzz_target!(|data: (u8, Vec<Vec<u8>>)| {
    let (kind, frames) = data;
    let kind = ["map", "lines", "top", "host", "stats"][usize::from(kind % 5)];
    let Some(mut picture) = Picture::new(kind, 1) else {
        return;
    };
    for bytes in &frames {
        if let Ok(frame) = parse(bytes) {
            let _ = picture.apply(&frame);
        }
    }
});
