//! A segment of the journal is read as far as it is whole, and nothing is read that was not written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidewall::history::SeriesName;
use tidewall::history::journal::{Damage, HEAD_BYTES, Writer, head, read};

/// Records as the fuzzer asks for them, each written by itself, and what a reader should say.
fn written(data: &[u8]) -> (Vec<u8>, Vec<String>) {
    let (mut segment, mut said) = (head(1).to_vec(), Vec::new());
    let mut writer = Writer::default();
    for chunk in data.chunks_exact(6) {
        let (index, time_ms) = (u32::from(chunk[0]), i64::from(chunk[1]) * 997 - 50_000);
        if chunk[2] % 5 == 0 {
            writer.name(index, &SeriesName::new("web-1", "cpu{a=b}", "%"));
            said.push(format!("{index} web-1 cpu{{a=b}} %"));
        } else {
            let value = f64::from(i16::from_le_bytes([chunk[3], chunk[4]])) / 8.0;
            writer.sample(index, time_ms, value);
            said.push(format!("{index} {time_ms} {value}"));
        }
        if chunk[5] % 4 == 0 {
            segment.extend(writer.take());
        }
    }
    segment.extend(writer.take());
    (segment, said)
}

fn told(bytes: &[u8]) -> (Vec<String>, tidewall::history::journal::Extent) {
    use tidewall::history::journal::Entry::{Name, Sample};
    let mut told = Vec::new();
    let extent = read(bytes, |offset, entry| {
        assert!((HEAD_BYTES..bytes.len()).contains(&offset));
        told.push(match entry {
            Name {
                index,
                host,
                metric,
                unit,
            } => format!("{index} {host} {metric} {unit}"),
            Sample {
                index,
                time_ms,
                value,
            } => format!("{index} {time_ms} {value}"),
        });
    });
    assert!(extent.good <= bytes.len());
    (told, extent)
}

fuzz_target!(|data: &[u8]| {
    let _ = told(data);
    let _ = told(&[&head(1)[..], data].concat());
    let sealed = [
        &head(1)[..],
        &(data.len() as u32).to_le_bytes(),
        &crc32fast::hash(data).to_le_bytes(),
        data,
    ];
    let _ = told(&sealed.concat());
    let Some((damage, rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let (segment, said) = written(rest);
    let (all, extent) = told(&segment);
    assert_eq!((all, extent.damage), (said.clone(), None));
    assert_eq!((extent.good, extent.skipped), (segment.len(), 0));
    // Cut somewhere: a beginning of it, and told that it is one unless the cut is between records.
    let at = usize::from(u16::from_le_bytes([damage[0], damage[1]])) % (segment.len() + 1);
    let (some, extent) = told(&segment[..at]);
    assert!(said.starts_with(&some));
    assert_eq!(
        extent.damage.is_none(),
        HEAD_BYTES <= at && extent.good == at
    );
    // A bit flipped behind the head: what is read was written, and the damage is seen.
    if HEAD_BYTES <= at && at < segment.len() {
        let mut damaged = segment.clone();
        damaged[at] ^= 1 << (damage[2] % 8);
        let (some, extent) = told(&damaged);
        assert!(some.iter().all(|entry| said.contains(entry)));
        assert!(
            extent.damage.is_some() || extent.skipped == 1,
            "{:?}",
            extent.damage
        );
        assert_ne!(extent.damage, Some(Damage::Head));
    }
});
