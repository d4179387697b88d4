//! `application/x-ndjson`: one document a line.

use super::document::Reader;
use super::fault::{Counted, Fault, Place, Reason};
use super::scan::{Refused, Scanner};
use super::{Batch, check_size, weigh};

/// Decodes all lines or refuses the body; then the batch is empty. Lines end with LF or CRLF, the
/// last one may go without; lines of nothing but whitespace are skipped.
pub fn decode(body: &[u8], now_ms: i64, batch: &mut Batch) -> Result<(), Fault> {
    batch.clear();
    check_size(body, Counted::Lines)?;
    let result = lines(body, |scan| line(scan, now_ms, batch));
    match result {
        Ok(()) if batch.docs().is_empty() => Err(no_documents(body)),
        Ok(()) => Ok(()),
        Err(fault) => {
            batch.refuse();
            Err(weigh(fault, || check(body)))
        }
    }
}

/// Hands each line that is not blank to `each`, its first byte at the cursor.
fn lines<'a>(
    body: &'a [u8],
    mut each: impl FnMut(Scanner<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut start = 0;
    let mut number = 0;
    while start < body.len() {
        let rest = body.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'\n', rest).map_or(body.len(), |length| start + length);
        number += 1;
        let mut scan = Scanner::line(body, start, end, number);
        scan.after_space();
        if !scan.is_at_end() {
            each(scan)?;
        }
        start = end + 1;
    }
    Ok(())
}

fn line(scan: Scanner<'_>, now_ms: i64, batch: &mut Batch) -> Result<(), Fault> {
    let mut reader = Reader::new(scan, now_ms, batch);
    let read = reader.document().and_then(|()| reader.scan.end());
    read.map_err(|Refused| reader.scan.fault())
}

/// Whether every line is JSON, of any shape.
fn check(body: &[u8]) -> Result<(), Fault> {
    lines(body, |mut scan| {
        let checked = scan.skip(0, &mut String::new()).and_then(|()| scan.end());
        checked.map_err(|Refused| scan.fault())
    })
}

fn no_documents(body: &[u8]) -> Fault {
    let place = Place {
        counted: Counted::Lines,
        number: 1,
        at: body.len() as u32,
    };
    Fault::new(Reason::NoDocuments, place, "expected at least one document")
}
