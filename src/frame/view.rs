//! What a viewer asked to see. Equal views are one view, encoded once for all who watch it.

use std::fmt;

use serde_json::{Map, Value};

use super::filter::{Filter, FilterError};
use super::query;
use crate::limits::{
    BACKFILL_S_MAX, HOST_BYTES_MAX, LINES_EXPRS_MAX, METRIC_BYTES_MAX, TAG_KEY_BYTES_MAX,
    TOP_ROWS_DEFAULT, TOP_ROWS_MAX,
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

/// How many seconds of its past the viewer of a `lines` view wants; 0: none. It is that viewer's
/// own wish and no part of the view, which others share.
pub fn backfill_s(view: &Value) -> Result<u32, ViewError> {
    let (Some(value), Some("lines")) = (view.get("backfill_s"), view["kind"].as_str()) else {
        return Ok(0);
    };
    let seconds = value.as_u64().and_then(|s| u32::try_from(s).ok());
    seconds.filter(|&s| s <= BACKFILL_S_MAX).ok_or_else(|| {
        wrong(
            "backfill_s",
            &format!("a whole number from 0 to {BACKFILL_S_MAX}"),
        )
    })
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
mod tests;
