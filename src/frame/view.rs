//! What a viewer asked to see. Equal views are one view, encoded once for all who watch it.

use std::fmt;

use serde_json::{Map, Value};

use super::filter::{Filter, FilterError};
use super::query;
use crate::limits::{
    HOST_BYTES_MAX, LINES_EXPRS_MAX, METRIC_BYTES_MAX, TAG_KEY_BYTES_MAX, TOP_ROWS_DEFAULT,
    TOP_ROWS_MAX,
};

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct View {
    pub kind: Kind,
    pub filter: Option<Filter>,
    pub hz: Hz,
    pub format: Format,
    /// The server chose a lower rate than the viewer asked for; frames say so.
    pub lowered: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    Map {
        metric: String,
    },
    Lines {
        exprs: Vec<Expr>,
        /// A tag: one line per expression and value of it.
        by: Option<String>,
    },
    Top {
        metric: String,
        n: usize,
    },
    Host {
        host: String,
    },
    Stats,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    Binary,
    /// The text twin.
    Json,
    /// The bare object of the default view, for who offers no subprotocol. Kind `Stats` only.
    Default,
}

/// A fleet statistic of one metric, `p95(cpu)`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Expr {
    pub func: Func,
    pub metric: String,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Func {
    Min,
    Avg,
    Max,
    Sum,
    Count,
    P50,
    P90,
    P95,
    P99,
}

/// Frames a second, out of a closed set: views that differ by a hair would not be shared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Hz {
    interval_ms: u32,
}

/// Why a view was refused. The text names the field and is shown to the viewer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ViewError {
    #[error("`view` must be an object")]
    NotObject,
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{field}` must be {wanted}")]
    Wrong { field: &'static str, wanted: String },
    #[error("`where`: {0}")]
    Filter(FilterError),
    #[error("`{key}` does not go with kind `{kind}`")]
    Stray { key: String, kind: &'static str },
    #[error("`{0}` is given twice")]
    Twice(String),
    #[error("the query is not percent-encoded UTF-8 at byte {0}")]
    Encoding(usize),
    #[error("the query has no `=` after byte {0}")]
    NoValue(usize),
}

impl View {
    /// What an ordinary client without a subprotocol watches.
    pub fn default_view() -> View {
        View {
            kind: Kind::Stats,
            filter: None,
            hz: Hz::TEN,
            format: Format::Default,
            lowered: false,
        }
    }

    /// Reads the `view` object of a `sub`. Keys that its kind does not know are ignored, except
    /// `where`: leaving it out would show more than was asked for.
    pub fn parse(view: &Value, format: Format) -> Result<View, ViewError> {
        let fields = view.as_object().ok_or(ViewError::NotObject)?;
        let kind = kind(fields)?;
        let filter = filter(fields)?;
        if filter.is_some() && !kind.takes_filter() {
            let (key, kind) = ("where".to_owned(), kind.name());
            return Err(ViewError::Stray { key, kind });
        }
        let hz = match fields.get("hz") {
            None => kind.default_hz(),
            Some(value) => Hz::parse(value)?,
        };
        Ok(View {
            kind,
            filter,
            hz,
            format,
            lowered: false,
        })
    }

    /// Reads the query of `GET /api/snapshot`: raw, without the `?`. Strict, since a person types
    /// it: an unknown key is an error.
    pub fn from_query(query: &str) -> Result<View, ViewError> {
        if query.is_empty() {
            return Ok(View::default_view());
        }
        let fields = query::fields(query)?;
        let kind = kind(&fields)?;
        let known: &[&str] = match kind {
            Kind::Map { .. } => &["kind", "where", "metric"],
            Kind::Lines { .. } => &["kind", "where", "exprs", "by"],
            Kind::Top { .. } => &["kind", "where", "metric", "n"],
            Kind::Host { .. } => &["kind", "host"],
            Kind::Stats => &["kind"],
        };
        if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
            let (key, kind) = (query::shorten(key), kind.name());
            return Err(ViewError::Stray { key, kind });
        }
        View::parse(&Value::Object(fields), Format::Json)
    }

    /// The same view at half the rate, chosen by the server.
    pub fn lowered(&self) -> View {
        View {
            hz: self.hz.halved(),
            lowered: true,
            ..self.clone()
        }
    }
}

impl Kind {
    /// As in `sub` and `schema`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Map { .. } => "map",
            Kind::Lines { .. } => "lines",
            Kind::Top { .. } => "top",
            Kind::Host { .. } => "host",
            Kind::Stats => "stats",
        }
    }

    fn takes_filter(&self) -> bool {
        matches!(
            self,
            Kind::Map { .. } | Kind::Lines { .. } | Kind::Top { .. }
        )
    }

    fn default_hz(&self) -> Hz {
        match self {
            Kind::Map { .. } | Kind::Host { .. } => Hz::TEN,
            Kind::Lines { .. } | Kind::Top { .. } => Hz::TWO,
            Kind::Stats => Hz::ONE,
        }
    }
}

impl Hz {
    pub const TEN: Hz = Hz { interval_ms: 100 };
    pub const FIVE: Hz = Hz { interval_ms: 200 };
    pub const TWO: Hz = Hz { interval_ms: 500 };
    pub const ONE: Hz = Hz { interval_ms: 1_000 };
    pub const FIFTH: Hz = Hz { interval_ms: 5_000 };
    const ALL: [Hz; 5] = [Hz::TEN, Hz::FIVE, Hz::TWO, Hz::ONE, Hz::FIFTH];

    pub fn interval_ms(self) -> u32 {
        self.interval_ms
    }

    /// As in `schema`: 10, 5, 2, 1 or 0.2.
    pub fn per_second(self) -> f64 {
        1_000.0 / f64::from(self.interval_ms)
    }

    /// The next lower rate; the lowest stays.
    pub fn halved(self) -> Hz {
        let lower = Hz::ALL
            .into_iter()
            .find(|hz| hz.interval_ms > self.interval_ms);
        lower.unwrap_or(self)
    }

    /// Reads a message's `hz`.
    pub fn parse(value: &Value) -> Result<Hz, ViewError> {
        let wanted = value.as_f64();
        let known = Hz::ALL
            .into_iter()
            .find(|hz| Some(hz.per_second()) == wanted);
        known.ok_or_else(|| wrong("hz", "10, 5, 2, 1 or 0.2"))
    }
}

impl fmt::Display for Hz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.per_second().fmt(f)
    }
}

impl Func {
    pub const ALL: [Func; 9] = [
        Func::Min,
        Func::Avg,
        Func::Max,
        Func::Sum,
        Func::Count,
        Func::P50,
        Func::P90,
        Func::P95,
        Func::P99,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Func::Min => "min",
            Func::Avg => "avg",
            Func::Max => "max",
            Func::Sum => "sum",
            Func::Count => "count",
            Func::P50 => "p50",
            Func::P90 => "p90",
            Func::P95 => "p95",
            Func::P99 => "p99",
        }
    }
}

impl Expr {
    pub fn parse(text: &str) -> Option<Expr> {
        let (name, rest) = text.split_once('(')?;
        let metric = rest.strip_suffix(')')?;
        let func = Func::ALL.into_iter().find(|func| func.name() == name)?;
        fits(metric, METRIC_BYTES_MAX).then(|| Expr {
            func,
            metric: metric.to_owned(),
        })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.func.name(), self.metric)
    }
}

fn kind(fields: &Map<String, Value>) -> Result<Kind, ViewError> {
    let name = fields.get("kind").ok_or(ViewError::Missing("kind"))?;
    let metric = || text(fields, "metric", METRIC_BYTES_MAX);
    match name.as_str() {
        Some("map") => Ok(Kind::Map { metric: metric()? }),
        Some("lines") => Ok(Kind::Lines {
            exprs: exprs(fields)?,
            by: match fields.get("by") {
                None | Some(Value::Null) => None,
                Some(_) => Some(text(fields, "by", TAG_KEY_BYTES_MAX)?),
            },
        }),
        Some("top") => Ok(Kind::Top {
            metric: metric()?,
            n: rows(fields)?,
        }),
        Some("host") => Ok(Kind::Host {
            host: text(fields, "host", HOST_BYTES_MAX)?,
        }),
        Some("stats") => Ok(Kind::Stats),
        _ => Err(wrong("kind", "one of map, lines, top, host, stats")),
    }
}

fn exprs(fields: &Map<String, Value>) -> Result<Vec<Expr>, ViewError> {
    let wanted = || {
        let funcs = Func::ALL.map(Func::name).join(" ");
        let what = format!("1 to {LINES_EXPRS_MAX} of fn(metric), fn one of {funcs}");
        wrong("exprs", &what)
    };
    let value = fields.get("exprs").ok_or(ViewError::Missing("exprs"))?;
    let list = value.as_array().ok_or_else(wanted)?;
    if list.is_empty() || list.len() > LINES_EXPRS_MAX {
        return Err(wanted());
    }
    let parse = |value: &Value| value.as_str().and_then(Expr::parse).ok_or_else(wanted);
    list.iter().map(parse).collect()
}

fn rows(fields: &Map<String, Value>) -> Result<usize, ViewError> {
    let Some(value) = fields.get("n") else {
        return Ok(TOP_ROWS_DEFAULT);
    };
    let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
    n.filter(|n| (1..=TOP_ROWS_MAX).contains(n))
        .ok_or_else(|| wrong("n", &format!("a whole number from 1 to {TOP_ROWS_MAX}")))
}

/// A blank filter is none: that is what an empty input field sends.
fn filter(fields: &Map<String, Value>) -> Result<Option<Filter>, ViewError> {
    match fields.get("where") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
        Some(Value::String(text)) => Filter::parse(text).map(Some).map_err(ViewError::Filter),
        Some(_) => Err(wrong("where", "a string")),
    }
}

fn text(
    fields: &Map<String, Value>,
    field: &'static str,
    bytes_max: usize,
) -> Result<String, ViewError> {
    let value = fields.get(field).ok_or(ViewError::Missing(field))?;
    match value.as_str() {
        Some(text) if fits(text, bytes_max) => Ok(text.to_owned()),
        _ => Err(wrong(field, &format!("a string of 1 to {bytes_max} bytes"))),
    }
}

fn fits(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn wrong(field: &'static str, wanted: &str) -> ViewError {
    let wanted = wanted.to_owned();
    ViewError::Wrong { field, wanted }
}

#[cfg(test)]
mod tests {
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
}
