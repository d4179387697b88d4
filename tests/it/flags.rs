//! Tables in documents that the source knows better: flags, and refusals.

use std::fs;

/// Compares what stands between the marks `name:begin` and `name:end`, or writes it.
fn check(path: &str, name: &str, table: &str) {
    let text = fs::read_to_string(path).unwrap();
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->\n"),
    );
    let (before, rest) = text.split_once(&begin).unwrap();
    let (now, after) = rest.split_once(&end).unwrap();
    if std::env::var("TIDEWALL_BLESS").is_ok_and(|bless| bless == "1") {
        let text = [before, &begin, table, &end, after].concat();
        return fs::write(path, text).unwrap();
    }
    let how = "`TIDEWALL_BLESS=1 cargo test --test it flags` writes it";
    assert_eq!(now, table, "{path} is out of date: {how}");
}

#[test]
fn the_readme_has_every_flag() {
    check("README.md", "flags", &tidewall::cli::flag_table());
}

#[test]
fn the_protocol_has_every_refusal() {
    check("docs/PROTOCOL.md", "refusals", &tidewall::reject::table());
}
