//! Tables in the documents that are made from the code. `TIDEWALL_BLESS=1` rewrites them.

use std::path::Path;

/// The part of a document between its markers.
fn check(document: &str, name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let start = text.find(&begin).expect("a begin marker") + begin.len();
    let stop = text.find(&end).expect("an end marker");
    if std::env::var_os("TIDEWALL_BLESS").is_some() {
        let blessed = [&text[..start], made, &text[stop..]].concat();
        std::fs::write(&path, blessed).unwrap();
        return;
    }
    assert_eq!(
        &text[start..stop],
        made,
        "{document}: run with TIDEWALL_BLESS=1"
    );
}

#[test]
fn the_flags_of_the_readme_are_those_of_the_command_line() {
    check("README.md", "flags", &tidewall::cli::flag_table());
}

#[test]
fn the_refusals_of_the_protocol_are_those_of_the_code() {
    check("docs/PROTOCOL.md", "refusals", &tidewall::reject::table());
}

/// By its name without the prefix: the document's table has that above it.
#[test]
fn the_cluster_s_counters_are_all_explained() {
    use tidewall::observe::{self, Aggregated, Cluster, Refused};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CLUSTER.md");
    let document = std::fs::read_to_string(path).unwrap();
    let explains = |name: &str| document.contains(&format!("`{name}`"));
    let gauges = observe::Gauges::default();
    let (aggregated, cluster) = (Aggregated::default(), Cluster::default());
    let text = observe::exposition(&[], &aggregated, None, Some(&cluster), &gauges);
    let names = text.lines().filter_map(|line| {
        let name = line.strip_prefix("tidewall_cluster_")?;
        name.split(['{', ' ']).next()
    });
    let names: Vec<&str> = names.filter(|name| *name != "refused_total").collect();
    assert!(10 < names.len(), "{names:?}");
    for name in names {
        assert!(explains(name), "docs/CLUSTER.md has no word on {name}");
    }
    assert!(explains("refused_total{reason}"));
    for refused in Refused::ALL {
        assert!(explains(refused.label()), "{refused:?}");
    }
}
