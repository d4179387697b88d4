//! A block holds the points that went in, and any bytes are a block in bounds or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::history::block::{Encoder, Point, decode};
use tidewall::limits::BLOCK_POINTS_MAX;

/// Points of what the fuzzer wrote: two bytes of time and a value in one of the ways people send.
fn points(data: &[u8]) -> Vec<Point> {
    let mut points: Vec<Point> = data
        .chunks_exact(11)
        .map(|chunk| {
            let offset_ms = u16::from_le_bytes([chunk[0], chunk[1]]) % 60_000;
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&chunk[3..]);
            let value = match chunk[2] % 4 {
                0 => f64::from_le_bytes(bytes),
                1 => f64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
                2 => f64::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 10.0,
                _ => 41.7,
            };
            Point { offset_ms, value }
        })
        .collect();
    points.sort_by_key(|point| point.offset_ms);
    points
}

fuzz_target!(|data: &[u8]| {
    let mut read = Vec::new();
    let written = points(data);
    if !written.is_empty() {
        let mut block = Vec::new();
        Encoder::default().encode(&written, &mut block);
        decode(&block, &mut read).unwrap();
        assert_eq!(read.len(), written.len());
        for (a, b) in read.iter().zip(&written) {
            let bits = |point: &Point| (point.offset_ms, point.value.to_bits());
            assert_eq!(bits(a), bits(b));
        }
    }
    // The checksum guards from decay, not from a foe.
    let sealed = [&crc32fast::hash(data).to_le_bytes()[..], data].concat();
    for bytes in [data, &sealed] {
        if decode(bytes, &mut read).is_ok() {
            assert!((1..=BLOCK_POINTS_MAX).contains(&read.len()));
            assert!(read.is_sorted_by_key(|point| point.offset_ms));
            assert!(read.iter().all(|point| point.offset_ms < 60_000));
        }
    }
});
