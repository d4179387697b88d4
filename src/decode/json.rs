//! `application/json`: one document, or an array of documents.

use super::document::Reader;
use super::fault::{Counted, Fault, Found, Reason};
use super::scan::{Refused, Scanner};
use super::{Batch, check_size, weigh};

/// Decodes the whole body or refuses it; then the batch is empty. `now_ms` is the wall clock.
pub fn decode(body: &[u8], now_ms: i64, batch: &mut Batch) -> Result<(), Fault> {
    batch.clear();
    check_size(body, Counted::Documents)?;
    let mut reader = Reader::new(Scanner::new(body), now_ms, batch);
    if documents(&mut reader).is_ok() {
        return Ok(());
    }
    let fault = reader.scan.fault();
    batch.clear();
    Err(weigh(fault, || check(body)))
}

fn documents(reader: &mut Reader<'_, '_>) -> Result<(), Refused> {
    match reader.scan.after_space() {
        b'{' => reader.document()?,
        b'[' => array(reader)?,
        _ => return Err(neither(reader)),
    }
    reader.scan.end()
}

fn array(reader: &mut Reader<'_, '_>) -> Result<(), Refused> {
    let start = reader.scan.at();
    reader.scan.advance(1);
    reader.depth = 1;
    let mut first = true;
    let mut documents = 0;
    while reader.scan.next_element(&mut first)? {
        documents += 1;
        reader.scan.next_document(documents);
        reader.document()?;
    }
    if documents == 0 {
        let what = "expected at least one document in the array";
        return Err(reader
            .scan
            .refuse(Reason::NoDocuments, start, what, Found::Nothing));
    }
    Ok(())
}

#[cold]
fn neither(reader: &mut Reader<'_, '_>) -> Refused {
    let scan = &mut reader.scan;
    if scan.is_at_end() {
        let what = "expected a document, the body is empty";
        return scan.refuse(Reason::EmptyBody, scan.at(), what, Found::Nothing);
    }
    let found = Found::value(scan.peek());
    let what = "expected a document or an array of documents";
    scan.refuse(Reason::NotADocument, scan.at(), what, found)
}

/// Whether the body is JSON, of any shape.
fn check(body: &[u8]) -> Result<(), Fault> {
    let mut scan = Scanner::new(body);
    let checked = check_values(&mut scan).and_then(|()| scan.end());
    checked.map_err(|Refused| scan.fault())
}

fn check_values(scan: &mut Scanner<'_>) -> Result<(), Refused> {
    let scratch = &mut String::new();
    if scan.after_space() != b'[' {
        return scan.skip(0, scratch);
    }
    scan.advance(1);
    let mut first = true;
    let mut documents = 0;
    while scan.next_element(&mut first)? {
        documents += 1;
        scan.next_document(documents);
        scan.skip(1, scratch)?;
    }
    Ok(())
}
