//! The committed results of the load tests: the report has no figure that its files do not have.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

const RESULTS: [&str; 2] = [
    "loadtests/results/approach1.json",
    "loadtests/results/approach2.json",
];

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Numbers of the text, thousands' commas taken out.
fn numbers(text: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == ',';
    let runs = text.split(move |c: char| !is_part(c));
    runs.map(|run| run.trim_matches(['.', ',']).replace(',', ""))
        .filter(|run| !run.is_empty())
}

fn collect(value: &Value, known: &mut BTreeSet<String>) {
    match value {
        Value::Number(number) => known.extend(numbers(&number.to_string())),
        Value::String(text) => known.extend(numbers(text)),
        Value::Array(list) => list.iter().for_each(|value| collect(value, known)),
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            known.extend(numbers(key));
            collect(value, known);
        }),
        Value::Null | Value::Bool(_) => {}
    }
}

#[test]
fn every_figure_of_the_report_stands_in_its_files() {
    let mut known = BTreeSet::new();
    RESULTS
        .iter()
        .for_each(|path| collect(&read(path), &mut known));
    let report = fs::read_to_string("loadtests/results/report.md").unwrap();
    assert!(report.contains("| sending to acknowledgement, p95, ms |"));
    let strange: Vec<String> = numbers(&report)
        .filter(|number| !known.contains(number))
        .collect();
    assert!(strange.is_empty(), "in no file: {strange:?}");
}

#[test]
fn the_run_that_is_shown_was_whole_and_its_thresholds_held() {
    for (path, number) in RESULTS.iter().zip(1_u64..) {
        let found = read(path);
        assert_eq!(found["approach"], number);
        for (name, held) in found["thresholds"].as_object().unwrap() {
            assert_eq!(held, true, "{path}: {name}");
        }
        let samples = &found["samples"];
        let sent = samples["sent"].as_u64().unwrap();
        assert!(0 < sent);
        assert_eq!(samples["accepted"], sent);
        assert!(sent <= samples["aggregated"].as_u64().unwrap());
        let load = &found["k6"][format!("approach{number}")];
        assert_eq!(load["samples_sent"]["values"]["count"], sent);
        for key in ["avg", "p50", "p95", "p99"] {
            assert!(
                0.0 < found["latency_ms"]["ingest"][key].as_f64().unwrap(),
                "{key}"
            );
        }
        let seconds = found["conditions"]["seconds"].as_u64().unwrap();
        for (name, process) in found["processes"].as_object().unwrap() {
            let taken = process["memory_mb_by_second"].as_array().unwrap();
            assert!(seconds * 8 / 10 <= taken.len() as u64, "{path}: {name}");
        }
    }
}
