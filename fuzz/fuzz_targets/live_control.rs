//! What viewers ask to see: views keep their limits, survive being written down, and show the hosts
//! that a plain reading of their filter shows.
//!
//! An input's first line is a `view` object, `?` and a query, or a filter; the others are hosts,
//! `name key=value …`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tidewall::frame::filter::Filter;
use tidewall::frame::view::{Format, Hz, Kind, View, backfill_s};
use tidewall::limits::{
    BACKFILL_S_MAX, FILTER_BYTES_MAX, HOST_BYTES_MAX, LINES_EXPRS_MAX, METRIC_BYTES_MAX,
    TAG_KEY_BYTES_MAX, TOP_ROWS_MAX,
};
use tidewall_fuzz::filter;

type Host<'t> = (&'t str, Vec<(String, String)>);

fn host(line: &str) -> Host<'_> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut tags: Vec<(String, String)> = Vec::new();
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        if tags.iter().all(|(known, _)| known != key) {
            tags.push((key.to_owned(), value.to_owned()));
        }
    }
    (name, tags)
}

/// A blank filter is none, which the caller knows.
fn check_filter(text: &str, hosts: &[Host<'_>]) {
    let (parsed, expected) = (Filter::parse(text), filter::parse(text));
    let (filter, model) = match (parsed, expected) {
        (Ok(filter), Some(model)) => (filter, model),
        (Err(error), None) => {
            let too_long = FILTER_BYTES_MAX < text.len();
            assert!(
                text.is_char_boundary(error.at) || too_long,
                "{text:?}: {error}"
            );
            return;
        }
        (parsed, expected) => panic!("{text:?}: {parsed:?}, expected {expected:?}"),
    };
    let canonical = filter.to_string();
    let again = Filter::parse(&canonical);
    if canonical.len() <= FILTER_BYTES_MAX {
        assert_eq!(again.as_ref(), Ok(&filter), "{text:?} is {canonical:?}");
    }
    for (name, tags) in hosts {
        let shown = filter.matches(name, tags);
        assert_eq!(
            shown,
            model.matches(name, tags),
            "{text:?} of {name:?} {tags:?}"
        );
    }
}

/// As a viewer would write it.
fn written(view: &View) -> Value {
    let mut fields = match &view.kind {
        Kind::Map { metric } => json!({"metric": metric}),
        Kind::Lines { exprs, by } => {
            let exprs: Vec<String> = exprs.iter().map(ToString::to_string).collect();
            json!({"exprs": exprs, "by": by})
        }
        Kind::Top { metric, n } => json!({"metric": metric, "n": n}),
        Kind::Host { host } => json!({"host": host}),
        Kind::Stats => json!({}),
    };
    fields["kind"] = view.kind.name().into();
    fields["hz"] = view.hz.per_second().into();
    if let Some(filter) = &view.filter {
        fields["where"] = filter.to_string().into();
    }
    fields
}

/// As a person would type it: no rate, and no expression with a comma between its parentheses gone.
fn query(view: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            list.join(",")
        }
        other => other.to_string(),
    };
    let fields = view.as_object().into_iter().flatten();
    let fields = fields.filter(|(key, value)| *key != "hz" && !value.is_null());
    let pairs: Vec<String> = fields
        .map(|(key, value)| {
            let escaped = text(value)
                .bytes()
                .map(|b| format!("%{b:02X}"))
                .collect::<String>();
            format!("{key}={escaped}")
        })
        .collect();
    pairs.join("&")
}

fn check_limits(view: &View) {
    let name = |text: &str, max| {
        assert!((1..=max).contains(&text.len()) && !text.chars().any(char::is_control));
    };
    match &view.kind {
        Kind::Map { metric } => name(metric, METRIC_BYTES_MAX),
        Kind::Top { metric, n } => {
            name(metric, METRIC_BYTES_MAX);
            assert!((1..=TOP_ROWS_MAX).contains(n));
        }
        Kind::Lines { exprs, by } => {
            assert!((1..=LINES_EXPRS_MAX).contains(&exprs.len()));
            exprs
                .iter()
                .for_each(|expr| name(&expr.metric, METRIC_BYTES_MAX));
            by.iter().for_each(|by| name(by, TAG_KEY_BYTES_MAX));
        }
        Kind::Host { host } => name(host, HOST_BYTES_MAX),
        Kind::Stats => {}
    }
    let filtered = matches!(
        view.kind,
        Kind::Map { .. } | Kind::Lines { .. } | Kind::Top { .. }
    );
    assert!(filtered || view.filter.is_none());
    assert!([0.2, 1.0, 2.0, 5.0, 10.0].contains(&view.hz.per_second()) && !view.lowered);
}

fn check_view(view: &View) {
    check_limits(view);
    let text = written(view);
    let too_long = view
        .filter
        .as_ref()
        .is_some_and(|f| FILTER_BYTES_MAX < f.to_string().len());
    if too_long {
        return;
    }
    assert_eq!(View::parse(&text, view.format).as_ref(), Ok(view), "{text}");
    // In a query a comma ends an expression, unless it stands in balanced parentheses.
    let plain = |c: char| !"(),".contains(c);
    let splits = |view: &View| match &view.kind {
        Kind::Lines { exprs, .. } => exprs.iter().all(|expr| expr.metric.chars().all(plain)),
        _ => true,
    };
    if splits(view) {
        let asked = View::from_query(&query(&text));
        let hz = asked.as_ref().map_or(view.hz, |asked| asked.hz);
        let expected = View {
            hz,
            format: Format::Json,
            ..view.clone()
        };
        assert_eq!(asked.as_ref(), Ok(&expected), "{}", query(&text));
    }
    let mut lower = view.lowered();
    for _ in 0..4 {
        assert!(lower.lowered && view.hz.interval_ms() <= lower.hz.interval_ms());
        lower = lower.lowered();
    }
    assert_eq!(lower.hz, Hz::FIFTH);
}

fuzz_target!(|text: &str| {
    let (line, hosts) = text.split_once('\n').unwrap_or((text, ""));
    let hosts: Vec<Host<'_>> = hosts.lines().take(8).map(host).collect();
    if let Some(query) = line.strip_prefix('?') {
        if let Ok(view) = View::from_query(query) {
            let default = query.is_empty();
            assert_eq!(
                view.format,
                if default {
                    Format::Default
                } else {
                    Format::Json
                }
            );
            check_view(&view);
        }
    } else if let Ok(asked) = serde_json::from_str::<Value>(line) {
        if let Ok(seconds) = backfill_s(&asked) {
            assert!(seconds <= BACKFILL_S_MAX);
        }
        for format in [Format::Binary, Format::Json] {
            let view = View::parse(&asked, format);
            let text = asked["where"]
                .as_str()
                .filter(|text| !text.trim().is_empty());
            if let Some(text) = text {
                check_filter(text, &hosts);
                assert!(view.is_err() || filter::parse(text).is_some());
            }
            if let Ok(view) = view {
                assert_eq!(view.filter.is_some(), text.is_some());
                check_view(&view);
            }
        }
    } else {
        check_filter(line, &hosts);
    }
});
