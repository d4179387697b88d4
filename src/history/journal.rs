//! What was taken and is in no store yet: the bytes of a segment, written in order, read at a
//! start.
//!
//! ```text
//! segment: "TWJ1" | u32 number | record*
//! record:  u32 length | u32 CRC-32 of the payload | payload
//! payload: u8 1 NAMES   | (varint index | host | metric | unit)*      texts: varint length, bytes
//!          u8 2 SAMPLES | i64 time | (zigzag index step | zigzag time step | f64)*
//! ```
//!
//! Integers are little-endian, variable-length ones as in Protocol Buffers. An index stands for a
//! series within its segment and is named there before it is used, so that a segment can be read
//! alone. A step is the distance to the sample before, which for the metrics of one document is 1
//! and 0: ten bytes a sample. This file touches no disk.

use super::SeriesName;
use super::bits::{unzigzag, zigzag};
use super::sketch::{put_varint, take_varint};
use crate::limits::JOURNAL_RECORD_BYTES_MAX;

pub const MAGIC: &[u8; 4] = b"TWJ1";
pub const HEAD_BYTES: usize = 8;
const FRAME_BYTES: usize = 8;
const NAMES: u8 = 1;
const SAMPLES: u8 = 2;

/// A place in the journal: later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

impl Position {
    pub fn new(segment: u32, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

pub fn head(segment: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(MAGIC);
    head[4..].copy_from_slice(&segment.to_le_bytes());
    head
}

/// Records in the making, as they will stand in the file.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// Where the payload of the record at hand begins, and its kind.
    open: Option<(usize, u8)>,
    index: i64,
    time_ms: i64,
}

impl Writer {
    pub fn name(&mut self, index: u32, name: &SeriesName) {
        self.record(NAMES);
        put_varint(&mut self.bytes, u64::from(index));
        for text in [&name.host, &name.metric, &name.unit] {
            put_varint(&mut self.bytes, text.len() as u64);
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    pub fn sample(&mut self, index: u32, time_ms: i64, value: f64) {
        if self.record(SAMPLES) {
            (self.index, self.time_ms) = (0, time_ms);
            self.bytes.extend_from_slice(&time_ms.to_le_bytes());
        }
        let index = i64::from(index);
        put_varint(&mut self.bytes, zigzag(index - self.index));
        put_varint(&mut self.bytes, zigzag(time_ms.wrapping_sub(self.time_ms)));
        self.bytes.extend_from_slice(&value.to_le_bytes());
        (self.index, self.time_ms) = (index, time_ms);
    }

    /// All that was written since the last call, whole records.
    pub fn take(&mut self) -> Vec<u8> {
        self.seal();
        std::mem::take(&mut self.bytes)
    }

    /// Gives a buffer back, so that the next records need none.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        if self.bytes.is_empty() {
            bytes.clear();
            self.bytes = bytes;
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Goes on with a record of this kind, or begins one: true.
    fn record(&mut self, kind: u8) -> bool {
        let fits = |&(start, of): &(usize, u8)| {
            of == kind && self.bytes.len() - start < JOURNAL_RECORD_BYTES_MAX / 2
        };
        if self.open.as_ref().is_some_and(fits) {
            return false;
        }
        self.seal();
        self.bytes.extend_from_slice(&[0; FRAME_BYTES]);
        self.open = Some((self.bytes.len(), kind));
        self.bytes.push(kind);
        true
    }

    fn seal(&mut self) {
        let Some((start, _)) = self.open.take() else {
            return;
        };
        let payload = &self.bytes[start..];
        let length = payload.len() as u32;
        let crc = crc32fast::hash(payload);
        self.bytes[start - FRAME_BYTES..start - 4].copy_from_slice(&length.to_le_bytes());
        self.bytes[start - 4..start].copy_from_slice(&crc.to_le_bytes());
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    Name {
        index: u32,
        host: &'a str,
        metric: &'a str,
        unit: &'a str,
    },
    Sample {
        index: u32,
        time_ms: i64,
        value: f64,
    },
}

/// Why reading stopped before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("this is no segment of a journal")]
    Head,
    #[error("a record is cut off")]
    Cut,
    #[error("a record's checksum is wrong")]
    Checksum,
    #[error("a record is not well-formed")]
    Payload,
}

/// How far a segment could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Where the last good record ends.
    pub good: usize,
    /// Records in front of it whose checksum was wrong.
    pub skipped: u32,
    /// Why nothing was read after it, where something is.
    pub damage: Option<Damage>,
}

/// The records of a segment in order, each with the offset that it begins at. A damaged one is
/// skipped if a good one follows where its length says; otherwise the length is not to be trusted,
/// and reading ends: looking for the next record by its shape could find one inside a host's name.
pub fn read(bytes: &[u8], mut each: impl FnMut(usize, Entry<'_>)) -> Extent {
    let mut extent = Extent::default();
    extent.damage = read_records(bytes, &mut extent, &mut each).err();
    extent
}

fn read_records(
    bytes: &[u8],
    extent: &mut Extent,
    each: &mut impl FnMut(usize, Entry<'_>),
) -> Result<(), Damage> {
    if bytes.len() < HEAD_BYTES || &bytes[..4] != MAGIC {
        return Err(Damage::Head);
    }
    let mut at = HEAD_BYTES;
    extent.good = at;
    let mut skipped = 0;
    while at < bytes.len() {
        let record = frame(bytes, at)?;
        let next = at + FRAME_BYTES + record.payload.len();
        if record.is_whole() {
            let read = read_payload(record.payload, &mut |entry| each(at, entry));
            read.ok_or(Damage::Payload)?;
            extent.skipped += std::mem::take(&mut skipped);
            extent.good = next;
        } else {
            let follows = frame(bytes, next).is_ok_and(|record| record.is_whole());
            if !follows {
                return Err(Damage::Checksum);
            }
            skipped += 1;
        }
        at = next;
    }
    Ok(())
}

struct Record<'a> {
    crc: u32,
    payload: &'a [u8],
}

impl Record<'_> {
    fn is_whole(&self) -> bool {
        crc32fast::hash(self.payload) == self.crc
    }
}

fn frame(bytes: &[u8], at: usize) -> Result<Record<'_>, Damage> {
    let rest = bytes.get(at..).unwrap_or_default();
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Cut)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    // An empty record is what a file has that grew before its data was written.
    if length == 0 || JOURNAL_RECORD_BYTES_MAX < length {
        return Err(Damage::Payload);
    }
    let payload = rest.get(..length).ok_or(Damage::Cut)?;
    let crc = u32::from_le_bytes(*crc);
    Ok(Record { crc, payload })
}

fn read_payload(payload: &[u8], each: &mut impl FnMut(Entry<'_>)) -> Option<()> {
    let (&kind, mut rest) = payload.split_first()?;
    match kind {
        NAMES => {
            while !rest.is_empty() {
                let index = u32::try_from(take_varint(&mut rest)?).ok()?;
                let (host, metric, unit) = (text(&mut rest)?, text(&mut rest)?, text(&mut rest)?);
                each(Entry::Name {
                    index,
                    host,
                    metric,
                    unit,
                });
            }
        }
        SAMPLES => {
            let (time, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            let (mut index, mut time_ms) = (0_i64, i64::from_le_bytes(*time));
            while !rest.is_empty() {
                index = index.checked_add(unzigzag(take_varint(&mut rest)?))?;
                time_ms = time_ms.wrapping_add(unzigzag(take_varint(&mut rest)?));
                let (value, tail) = rest.split_first_chunk::<8>()?;
                rest = tail;
                each(Entry::Sample {
                    index: u32::try_from(index).ok()?,
                    time_ms,
                    value: f64::from_le_bytes(*value),
                });
            }
        }
        _ => return None,
    }
    Some(())
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Entries as text, so that what was borrowed can be compared.
    fn told(bytes: &[u8]) -> (Vec<String>, Extent) {
        let mut told = Vec::new();
        let extent = read(bytes, |_, entry| told.push(format!("{entry:?}")));
        (told, extent)
    }

    fn some(samples: u32) -> (Vec<u8>, Vec<String>) {
        let mut writer = Writer::default();
        let mut expected = Vec::new();
        for index in 0..samples {
            let host = format!("web-{}", index / 10);
            let metric = format!("m{}", index % 10);
            writer.name(index, &SeriesName::new(&host, &metric, "%"));
            let entry = Entry::Name {
                index,
                host: &host,
                metric: &metric,
                unit: "%",
            };
            expected.push(format!("{entry:?}"));
            for (time_ms, value) in [(1_763_918_083_000, 0.5), (-7, f64::from(index))] {
                writer.sample(index, time_ms, value);
                let entry = Entry::Sample {
                    index,
                    time_ms,
                    value,
                };
                expected.push(format!("{entry:?}"));
            }
        }
        ([&head(3)[..], &writer.take()].concat(), expected)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, expected) = some(100);
        let (told, extent) = told(&bytes);
        assert_eq!(told, expected);
        let good = bytes.len();
        let whole = Extent {
            good,
            ..Extent::default()
        };
        assert_eq!(extent, whole);
    }

    #[test]
    fn a_cut_segment_is_read_to_its_last_whole_record() {
        let (bytes, expected) = some(4);
        let mut before = 0;
        for at in 0..bytes.len() {
            let (told, extent) = told(&bytes[..at]);
            assert!(before <= told.len() && extent.good <= at);
            assert!(expected.starts_with(&told));
            assert_eq!(
                extent.damage.is_none(),
                extent.good == at && HEAD_BYTES <= at
            );
            before = told.len();
        }
    }

    #[test]
    fn a_damaged_record_costs_itself_alone() {
        let records = [1, 2, 3].map(|at| {
            let mut writer = Writer::default();
            writer.sample(at, 0, 0.0);
            writer.take()
        });
        let length = records[0].len();
        for (which, skipped, good) in [(0, 1, 3), (1, 1, 3), (2, 0, 2)] {
            let mut bytes = [&head(3)[..], &records.concat()].concat();
            bytes[HEAD_BYTES + (which + 1) * length - 1] ^= 1;
            let (told, extent) = told(&bytes);
            assert_eq!(extent.good, HEAD_BYTES + good * length);
            assert_eq!((told.len(), extent.skipped), (2, skipped), "{which}");
            assert_eq!(extent.damage.is_none(), which < 2);
        }
    }

    #[test]
    fn a_long_batch_makes_several_records() {
        let mut writer = Writer::default();
        for at in 0..JOURNAL_RECORD_BYTES_MAX {
            writer.sample(at as u32, at as i64, 1.0);
        }
        let bytes = [&head(1)[..], &writer.take()].concat();
        let mut offsets = std::collections::BTreeSet::new();
        let mut count = 0;
        let extent = read(&bytes, |offset, _| {
            offsets.insert(offset);
            count += 1;
        });
        assert_eq!((extent.damage, count), (None, JOURNAL_RECORD_BYTES_MAX));
        assert!(10 < offsets.len());
    }

    proptest! {
        #[test]
        fn damage_is_found_and_nothing_wrong_is_read(
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let (mut bytes, expected) = some(20);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let (told, extent) = told(&bytes);
            // The number in the head is the one thing that nothing checks: the file's name has it
            // too.
            let is_number = (4..HEAD_BYTES).contains(&at);
            let is_seen = extent.damage.is_some() || 0 < extent.skipped;
            prop_assert_eq!(is_seen, !is_number);
            prop_assert!(told.iter().all(|entry| expected.contains(entry)));
        }

        #[test]
        fn no_bytes_lead_astray(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = told(&bytes);
            let _ = told(&[&head(0)[..], &bytes].concat());
            let sealed = [
                &head(0)[..],
                &(bytes.len() as u32).to_le_bytes(),
                &crc32fast::hash(&bytes).to_le_bytes(),
                &bytes,
            ];
            let _ = told(&sealed.concat());
        }
    }
}
