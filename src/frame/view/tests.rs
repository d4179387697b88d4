#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

fn sub(view: &Value) -> Result<View, String> {
    View::parse(view, Format::Binary).map_err(|error| error.to_string())
}

fn query(text: &str) -> Result<View, String> {
    View::from_query(text).map_err(|error| error.to_string())
}

fn metric(name: &str) -> String {
    name.to_owned()
}

#[test]
fn views_are_read_with_their_defaults() {
    let exprs = vec![
        Expr::parse("p50(cpu)").unwrap(),
        Expr::parse("max(d{a=1,b=2})").unwrap(),
    ];
    let lines = json!({"kind": "lines", "exprs": ["p50(cpu)", "max(d{a=1,b=2})"], "by": "dc"});
    for (view, kind, hz) in [
        (
            json!({"kind": "map", "metric": "cpu"}),
            Kind::Map {
                metric: metric("cpu"),
            },
            10.0,
        ),
        (
            json!({"kind": "map", "metric": "cpu", "hz": 5, "n": "ignored", "where": " "}),
            Kind::Map {
                metric: metric("cpu"),
            },
            5.0,
        ),
        (
            lines,
            Kind::Lines {
                exprs,
                by: Some("dc".into()),
            },
            2.0,
        ),
        (
            json!({"kind": "top", "metric": "cpu"}),
            Kind::Top {
                metric: metric("cpu"),
                n: TOP_ROWS_DEFAULT,
            },
            2.0,
        ),
        (
            json!({"kind": "top", "metric": "cpu", "n": TOP_ROWS_MAX}),
            Kind::Top {
                metric: metric("cpu"),
                n: TOP_ROWS_MAX,
            },
            2.0,
        ),
        (
            json!({"kind": "host", "host": "web-1"}),
            Kind::Host {
                host: metric("web-1"),
            },
            10.0,
        ),
        (json!({"kind": "stats", "hz": 0.2}), Kind::Stats, 0.2),
        (json!({"kind": "stats", "where": null}), Kind::Stats, 1.0),
    ] {
        let parsed = sub(&view).unwrap();
        assert_eq!(parsed.kind, kind, "{view}");
        assert_eq!(parsed.hz.per_second(), hz, "{view}");
        assert_eq!((parsed.filter, parsed.lowered), (None, false), "{view}");
    }
}

fn check_errors<const N: usize>(table: [(Value, &str); N]) {
    for (view, expected) in table {
        let error = sub(&view).unwrap_err();
        assert!(error.starts_with(expected), "{view}: {error}");
    }
}

#[test]
fn errors_name_the_field() {
    check_errors([
        (json!([]), "`view` must be an object"),
        (json!({}), "`kind` is missing"),
        (
            json!({"kind": "heat"}),
            "`kind` must be one of map, lines, top, host, stats",
        ),
        (json!({"kind": "map"}), "`metric` is missing"),
        (
            json!({"kind": "map", "metric": 7}),
            "`metric` must be a string of 1 to 256 bytes",
        ),
        (
            json!({"kind": "map", "metric": ""}),
            "`metric` must be a string of 1 to 256 bytes",
        ),
        (
            json!({"kind": "map", "metric": "a\n"}),
            "`metric` must be a string of",
        ),
        (
            json!({"kind": "map", "metric": "a".repeat(257)}),
            "`metric` must be a string of",
        ),
        (
            json!({"kind": "map", "metric": "a", "hz": 3}),
            "`hz` must be 10, 5, 2, 1 or 0.2",
        ),
        (
            json!({"kind": "map", "metric": "a", "hz": "1"}),
            "`hz` must be 10, 5, 2, 1 or 0.2",
        ),
        (
            json!({"kind": "map", "metric": "a", "where": 1}),
            "`where` must be a string",
        ),
        (
            json!({"kind": "map", "metric": "a", "where": "dc"}),
            "`where`: expected `=`, `!=` or `~` at byte 2",
        ),
        (
            json!({"kind": "top", "metric": "a", "n": 0}),
            "`n` must be a whole number from 1 to",
        ),
        (
            json!({"kind": "top", "metric": "a", "n": 201}),
            "`n` must be a whole number from 1",
        ),
        (
            json!({"kind": "top", "metric": "a", "n": 1.5}),
            "`n` must be a whole number from 1",
        ),
    ]);
}

#[test]
fn errors_name_the_field_of_lines_and_hosts() {
    let many = vec!["p50(cpu)"; LINES_EXPRS_MAX + 1];
    check_errors([
        (json!({"kind": "lines"}), "`exprs` is missing"),
        (
            json!({"kind": "lines", "exprs": []}),
            "`exprs` must be 1 to 16 of fn(metric)",
        ),
        (
            json!({"kind": "lines", "exprs": many}),
            "`exprs` must be 1 to 16 of fn(metric)",
        ),
        (
            json!({"kind": "lines", "exprs": ["p51(cpu)"]}),
            "`exprs` must be 1 to 16",
        ),
        (
            json!({"kind": "lines", "exprs": ["p50()"]}),
            "`exprs` must be 1 to 16",
        ),
        (
            json!({"kind": "lines", "exprs": ["p50(cpu"]}),
            "`exprs` must be 1 to 16",
        ),
        (
            json!({"kind": "lines", "exprs": ["p50(cpu)"], "by": ""}),
            "`by` must be a string of 1 to 64 bytes",
        ),
        (json!({"kind": "host"}), "`host` is missing"),
        (
            json!({"kind": "host", "host": "a", "where": "dc=fra"}),
            "`where` does not go with kind `host`",
        ),
    ]);
}

#[test]
fn equal_views_are_equal_however_written() {
    let view = |filter: &str| {
        sub(&json!({"kind": "map", "metric": "cpu", "where": filter, "x": filter})).unwrap()
    };
    assert_eq!(view("a=1 and b=2"), view("(b=2) and (a=\"1\")"));
    assert_ne!(view("a=1 and b=2"), view("a=1 or b=2"));
    assert_ne!(view("a=1"), view("a=1").lowered());
}

#[test]
fn queries_are_read() {
    assert_eq!(query("").unwrap(), View::default_view());
    let same = |text: &str, view: Value| {
        let wanted = View::parse(&view, Format::Json).unwrap();
        assert_eq!(query(text).unwrap(), wanted, "{text}");
    };
    same(
        "kind=host&host=web-1",
        json!({"kind": "host", "host": "web-1"}),
    );
    same(
        "kind=host&host=web%201%2B",
        json!({"kind": "host", "host": "web 1+"}),
    );
    same(
        "kind=host&host=%C3%A9+",
        json!({"kind": "host", "host": "é "}),
    );
    same(
        "n=20&kind=top&metric=cpu",
        json!({"kind": "top", "metric": "cpu", "n": 20}),
    );
    let map = json!({"kind": "map", "metric": "cpu", "where": "dc=fra and a=b"});
    same("kind=map&metric=cpu&where=dc=fra+and+a%3Db", map);
    let exprs = ["p50(cpu)", "max(d{a=1,b=2})"];
    same(
        "kind=lines&exprs=p50(cpu),max(d{a=1,b=2})&by=dc",
        json!({"kind": "lines", "exprs": exprs, "by": "dc"}),
    );
    same("kind=stats", json!({"kind": "stats"}));
}

#[test]
fn queries_are_strict() {
    for (text, expected) in [
        ("metric=cpu", "`kind` is missing"),
        (
            "kind=map&metric=cpu&hz=1",
            "`hz` does not go with kind `map`",
        ),
        (
            "kind=stats&where=dc=fra",
            "`where` does not go with kind `stats`",
        ),
        ("kind=map&kind=map", "`kind` is given twice"),
        ("kind=map&metric", "the query has no `=` after byte 9"),
        ("kind=map&", "the query has no `=` after byte 9"),
        (
            "kind=top&metric=cpu&n=many",
            "`n` must be a whole number from 1 to 200",
        ),
        (
            "kind=top&metric=cpu&n=",
            "`n` must be a whole number from 1 to 200",
        ),
        (
            "kind=host&host=%",
            "the query is not percent-encoded UTF-8 at byte 15",
        ),
        (
            "kind=host&host=a%4",
            "the query is not percent-encoded UTF-8 at byte 16",
        ),
        (
            "kind=host&host=%+1",
            "the query is not percent-encoded UTF-8 at byte 15",
        ),
        (
            "kind=host&host=%ff",
            "the query is not percent-encoded UTF-8 at byte 15",
        ),
        ("kind=lines&exprs=", "`exprs` must be 1 to 16 of"),
        ("kind=lines&exprs=max(a),", "`exprs` must be 1 to 16 of"),
    ] {
        let error = query(text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn rates_step_down_to_the_lowest() {
    let steps = std::iter::successors(Some(Hz::TEN), |hz| Some(hz.halved()));
    let steps: Vec<String> = steps.take(6).map(|hz| hz.to_string()).collect();
    assert_eq!(steps, ["10", "5", "2", "1", "0.2", "0.2"]);
}

#[test]
fn a_wish_for_the_past_is_bounded_and_no_part_of_the_view() {
    let lines = |seconds: Value| {
        let mut view = json!({"kind": "lines", "exprs": ["p50(cpu)"]});
        view["backfill_s"] = seconds;
        view
    };
    let most = BACKFILL_S_MAX;
    for (view, expected) in [
        (json!({"kind": "lines", "exprs": ["p50(cpu)"]}), Some(0)),
        (lines(json!(0)), Some(0)),
        (lines(json!(most)), Some(most)),
        (lines(json!(most + 1)), None),
        (lines(json!(-1)), None),
        (lines(json!(1.5)), None),
        (lines(json!("600")), None),
        (lines(Value::Null), None),
        (
            json!({"kind": "map", "metric": "cpu", "backfill_s": "what"}),
            Some(0),
        ),
        (json!([]), Some(0)),
    ] {
        assert_eq!(backfill_s(&view).ok(), expected, "{view}");
    }
    assert_eq!(sub(&lines(json!(600))), sub(&lines(json!(0))));
}
