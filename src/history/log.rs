//! The journal's files: one segment is written, older ones wait until the store has what is in
//! them.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::journal::{self, Damage, Entry, HEAD_BYTES, Position};
use crate::limits::JOURNAL_SEGMENT_BYTES;

/// Invariant: `segments` are in order, and the last one is that of `file` where there is one.
pub struct Log {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    /// The greatest number that was ever a segment's.
    taken: u32,
    /// None: the disk took no segment; the next rotation tries again.
    file: Option<File>,
}

struct Segment {
    number: u32,
    /// Whole records end here.
    end: u32,
    /// The latest minute that a sample in it belongs to.
    last_minute: i64,
}

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub segments: u64,
    /// Records whose checksum was wrong, good ones after them.
    pub skipped_records: u64,
    /// Bytes behind the last good record of their segment.
    pub cut_bytes: u64,
}

impl Log {
    /// Reads what is there, oldest first, and begins no segment yet. `each` hears every entry with
    /// its place; it says of a sample which minute it belongs to. Segments to come have numbers
    /// past `taken`, whatever was removed here by hand: places in the journal never come twice.
    pub fn open(
        dir: &Path,
        taken: u32,
        mut each: impl FnMut(Position, Entry<'_>) -> Option<i64>,
    ) -> io::Result<(Log, Found)> {
        fs::create_dir_all(dir)?;
        let mut found = Found::default();
        let mut segments = VecDeque::new();
        for (number, path) in list(dir)? {
            let bytes = fs::read(&path)?;
            let mut last_minute = i64::MIN;
            let extent = journal::read(&bytes, |offset, entry| {
                let minute = each(Position::new(number, offset as u32), entry);
                last_minute = last_minute.max(minute.unwrap_or(i64::MIN));
            });
            found.segments += 1;
            found.skipped_records += u64::from(extent.skipped);
            if let Some(damage) = extent.damage {
                let cut = bytes.len() - extent.good;
                found.cut_bytes += cut as u64;
                let path = path.display();
                tracing::warn!(%path, %damage, at = extent.good, cut, "the journal is damaged");
            }
            segments.push_back(Segment {
                number,
                end: extent.good as u32,
                last_minute,
            });
        }
        let log = Log {
            dir: dir.to_owned(),
            segments,
            taken,
            file: None,
        };
        Ok((log, found))
    }

    /// Where the next record will stand.
    pub fn position(&self) -> Position {
        self.segments.back().map_or(Position::default(), |last| {
            Position::new(last.number, last.end)
        })
    }

    /// The segment at hand, by whose number a writer knows which names it must say anew.
    pub fn segment(&self) -> u32 {
        self.position().segment()
    }

    pub fn must_rotate(&self) -> bool {
        let is_full = |last: &Segment| JOURNAL_SEGMENT_BYTES <= last.end as usize;
        self.file.is_none() || self.segments.back().is_none_or(is_full)
    }

    /// Begins a segment. Gives the files that must reach the disk before what comes after is called
    /// durable: the directory, which has the new name, and the old segment, if there is one. Others
    /// wait for that: a busy disk takes seconds.
    pub fn rotate(&mut self) -> io::Result<Vec<File>> {
        let mut to_sync: Vec<File> = self.file.take().into_iter().collect();
        let number = self.segment().max(self.taken) + 1;
        let path = self.path(number);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        file.write_all(&journal::head(number))?;
        to_sync.push(File::open(&self.dir)?);
        self.segments.push_back(Segment {
            number,
            end: HEAD_BYTES as u32,
            last_minute: i64::MIN,
        });
        self.file = Some(file);
        Ok(to_sync)
    }

    /// Appends whole records. After an error the segment is given up: what of it is not whole is
    /// cut off, and nothing more is written to it.
    pub fn append(&mut self, records: &[u8], last_minute: i64) -> io::Result<()> {
        let (Some(file), Some(last)) = (&self.file, self.segments.back_mut()) else {
            return Err(io::Error::other("the journal has no segment"));
        };
        if let Err(error) = file.write_all_at(records, u64::from(last.end)) {
            let _ = file.set_len(u64::from(last.end));
            self.file = None;
            return Err(error);
        }
        last.end += records.len() as u32;
        last.last_minute = last.last_minute.max(last_minute);
        Ok(())
    }

    /// The disk did not take the segment at hand: nothing more is written to it.
    pub fn give_up(&mut self) {
        self.file = None;
    }

    /// A handle to sync by, on another thread.
    pub fn handle(&self) -> io::Result<Option<File>> {
        self.file.as_ref().map(File::try_clone).transpose()
    }

    /// The store has all minutes up to `until` that came before `position`: gives the files of the
    /// segments that hold nothing else, to be removed; never the one at hand.
    pub fn release(&mut self, position: Position, until: i64) -> Vec<PathBuf> {
        let is_done = |segment: &Segment| {
            Position::new(segment.number, segment.end) <= position && segment.last_minute <= until
        };
        let mut done = Vec::new();
        while 1 < self.segments.len()
            && let Some(first) = self.segments.pop_front_if(|first| is_done(first))
        {
            done.push(self.path(first.number));
        }
        done
    }

    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| u64::from(segment.end))
            .sum()
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}.twj"))
    }
}

/// Segments by number.
pub fn list(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if path.extension().is_some_and(|kind| kind == "twj")
            && let Some(number) = stem.and_then(|stem| stem.parse().ok())
        {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Damage of a segment's file, for `tidewall verify`; none: every record is whole.
pub fn check(path: &Path) -> io::Result<(u64, Option<Damage>, u32)> {
    let bytes = fs::read(path)?;
    let mut samples = 0;
    let extent = journal::read(&bytes, |_, entry| {
        samples += u64::from(matches!(entry, Entry::Sample { .. }));
    });
    Ok((samples, extent.damage, extent.skipped))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::SeriesName;
    use super::*;

    pub(crate) fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tidewall-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn records(values: std::ops::Range<u32>) -> Vec<u8> {
        let mut writer = journal::Writer::default();
        writer.name(0, &SeriesName::new("web-1", "cpu", "%"));
        for value in values {
            writer.sample(0, i64::from(value) * 60_000, f64::from(value));
        }
        writer.take()
    }

    fn values(dir: &Path) -> (Vec<f64>, Found, Log) {
        let mut values = Vec::new();
        let (log, found) = Log::open(dir, 0, |_, entry| match entry {
            Entry::Sample { time_ms, value, .. } => {
                values.push(value);
                Some(time_ms / 60_000)
            }
            Entry::Name { .. } => None,
        })
        .unwrap();
        (values, found, log)
    }

    #[test]
    fn segments_stay_until_the_store_has_all_of_them() {
        let dir = scratch("log-release");
        let (_, found, mut log) = values(&dir);
        assert_eq!((found.segments, log.position()), (0, Position::default()));
        assert!(log.must_rotate());
        for segment in 0..3_u32 {
            assert_eq!(
                log.rotate().unwrap().len(),
                if segment == 0 { 1 } else { 2 }
            );
            log.append(&records(segment..segment + 1), i64::from(segment))
                .unwrap();
        }
        let position = log.position();
        drop(log);
        let (read, found, mut log) = values(&dir);
        assert_eq!((read, found.segments), (vec![0.0, 1.0, 2.0], 3));
        assert_eq!(log.position(), position);
        log.rotate().unwrap();
        assert!(
            log.release(Position::new(1, 5), 9).is_empty(),
            "nothing was whole"
        );
        assert!(log.release(position, -1).is_empty());
        let files: Vec<PathBuf> = list(&dir)
            .unwrap()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        assert_eq!(log.release(position, 0), files[..1]);
        assert_eq!(
            log.release(log.position(), 2),
            files[1..3],
            "not the one at hand"
        );
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_torn_tail_is_cut_and_told() {
        let dir = scratch("log-torn");
        let (_, _, mut log) = values(&dir);
        log.rotate().unwrap();
        log.append(&records(0..10), 9).unwrap();
        log.append(&records(10..20), 19).unwrap();
        drop(log);
        let (_, path) = list(&dir).unwrap().remove(0);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (read, found, log) = values(&dir);
        assert_eq!(read.len(), 10);
        assert!(100 < found.cut_bytes);
        assert!(
            log.must_rotate(),
            "nothing is appended to a damaged segment"
        );
        assert_eq!(check(&path).unwrap(), (10, Some(Damage::Cut), 0));
        fs::remove_dir_all(&dir).unwrap();
    }
}
