//! What can be asked of history, and how an answer is said: `GET /api/history` (docs/PROTOCOL.md).

use std::fmt::Write;

use serde_json::{Map, Value};

use super::FLEET_STEP_MS;
use super::block::MINUTE_MS;
use super::steps::{FleetStep, Grid, Range, Step};
use crate::frame::query;
use crate::frame::view::{Func, ViewError};
use crate::limits::{
    HISTORY_POINTS_ANSWERED_MAX, HISTORY_RANGE_DEFAULT_MS, HISTORY_RANGE_MS_MAX, HOST_BYTES_MAX,
    METRIC_BYTES_MAX,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub metric: String,
    /// None: the fleet.
    pub host: Option<String>,
    pub from_ms: i64,
    pub to_ms: i64,
    /// 0: the points as they are. Of the fleet it is a multiple of [`FLEET_STEP_MS`].
    pub step_ms: i64,
    /// None: the average of a host's points; all statistics of the fleet.
    pub stat: Option<Stat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    Of(Func),
    /// The last value of a step; of one host alone.
    Last,
}

/// Why a question was refused; the text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error(transparent)]
    Query(#[from] ViewError),
    #[error("`{0}` is not known here: metric, host, from, to, step and stat are")]
    Unknown(String),
    #[error("`{field}` must be {wanted}")]
    Wrong { field: &'static str, wanted: String },
}

const KEYS: [&str; 6] = ["metric", "host", "from", "to", "step", "stat"];

impl Question {
    /// Reads a raw query, without the `?`.
    pub fn parse(query: &str, now_ms: i64) -> Result<Question, QuestionError> {
        let fields = if query.is_empty() {
            Map::new()
        } else {
            query::fields(query)?
        };
        if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(QuestionError::Unknown(query::shorten(key)));
        }
        let metric = text(&fields, "metric", METRIC_BYTES_MAX)?
            .ok_or_else(|| wrong("metric", "given, such as metric=cpu"))?;
        let host = text(&fields, "host", HOST_BYTES_MAX)?;
        let to_ms = integer(&fields, "to")?.unwrap_or(now_ms);
        let from_ms = integer(&fields, "from")?.unwrap_or(to_ms - HISTORY_RANGE_DEFAULT_MS);
        if !(0..=HISTORY_RANGE_MS_MAX).contains(&to_ms.saturating_sub(from_ms)) {
            let most = HISTORY_RANGE_MS_MAX / 86_400_000;
            return Err(wrong(
                "from",
                &format!("before `to`, by at most {most} days"),
            ));
        }
        let stat = stat(&fields, host.is_some())?;
        let asked = integer(&fields, "step")?;
        let step_ms = step(asked, host.is_some(), to_ms - from_ms)?;
        Ok(Question {
            metric,
            host,
            from_ms,
            to_ms,
            step_ms,
            stat,
        })
    }

    pub fn grid(&self) -> Grid {
        Grid {
            range: Range {
                from_ms: self.from_ms,
                to_ms: self.to_ms,
            },
            first_ms: self.first_step_ms(),
            step_ms: self.step_ms,
        }
    }

    /// When its first step begins: steps lie on multiples of themselves, so that asking again later
    /// gives the same ones.
    pub fn first_step_ms(&self) -> i64 {
        match self.step_ms {
            0 => self.from_ms,
            step_ms => self.from_ms.div_euclid(step_ms) * step_ms,
        }
    }

    pub fn steps(&self) -> usize {
        if self.step_ms == 0 {
            return 0;
        }
        let span = self.to_ms - self.first_step_ms();
        (span as u64).div_ceil(self.step_ms as u64) as usize
    }
}

/// A host's step is any, the fleet's a multiple of what is kept of it; without one the answer has
/// some hundreds of steps.
fn step(asked: Option<i64>, of_host: bool, span_ms: i64) -> Result<i64, QuestionError> {
    let least = if of_host { 1 } else { FLEET_STEP_MS };
    let most = HISTORY_POINTS_ANSWERED_MAX as i64;
    let needed = (span_ms / most + 1).max(least);
    let Some(asked) = asked else {
        return Ok(nice(span_ms / 600, of_host));
    };
    if asked == 0 && of_host {
        return Ok(0);
    }
    let fits = needed <= asked && asked % least == 0 && asked <= HISTORY_RANGE_MS_MAX;
    fits.then_some(asked).ok_or_else(|| {
        let zero = if of_host {
            ", or 0 for the points themselves"
        } else {
            ""
        };
        let multiple = if of_host { "" } else { ", a multiple of 10000" };
        let wanted = format!("milliseconds, at least {needed} for this range{multiple}{zero}");
        wrong("step", &wanted)
    })
}

/// The next step that people count in.
fn nice(least_ms: i64, of_host: bool) -> i64 {
    const NICE: [i64; 12] = [
        1_000,
        2_000,
        5_000,
        FLEET_STEP_MS,
        30_000,
        MINUTE_MS,
        300_000,
        900_000,
        3_600_000,
        10_800_000,
        43_200_000,
        86_400_000,
    ];
    let fits = |step: &i64| least_ms <= *step && (of_host || FLEET_STEP_MS <= *step);
    NICE.into_iter().find(fits).unwrap_or(86_400_000)
}

fn stat(fields: &Map<String, Value>, of_host: bool) -> Result<Option<Stat>, QuestionError> {
    let Some(text) = fields.get("stat").and_then(Value::as_str) else {
        return Ok(None);
    };
    let of_one = [Func::Min, Func::Avg, Func::Max, Func::Sum, Func::Count];
    let allowed: &[Func] = if of_host { &of_one } else { &Func::ALL };
    let known = allowed.iter().find(|func| func.name() == text);
    match known {
        Some(&func) => Ok(Some(Stat::Of(func))),
        None if of_host && text == "last" => Ok(Some(Stat::Last)),
        None => {
            let names: Vec<&str> = allowed.iter().map(|func| func.name()).collect();
            let last = if of_host { " last" } else { "" };
            Err(wrong("stat", &format!("one of {}{last}", names.join(" "))))
        }
    }
}

fn text(
    fields: &Map<String, Value>,
    field: &'static str,
    bytes_max: usize,
) -> Result<Option<String>, QuestionError> {
    let Some(value) = fields.get(field) else {
        return Ok(None);
    };
    let fits =
        |text: &&str| (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
    let text = value.as_str().filter(fits);
    let wanted = || wrong(field, &format!("a text of 1 to {bytes_max} bytes"));
    text.map(str::to_owned).map(Some).ok_or_else(wanted)
}

fn integer(fields: &Map<String, Value>, field: &'static str) -> Result<Option<i64>, QuestionError> {
    let Some(value) = fields.get(field).and_then(Value::as_str) else {
        return Ok(None);
    };
    let number: Option<i64> = value.parse().ok();
    // Up to the year 5138: sums of times stay far from overflow.
    let number = number.filter(|n| (0..100_000_000_000_000).contains(n));
    let wanted = || wrong(field, "whole milliseconds, for times since 1970");
    number.map(Some).ok_or_else(wanted)
}

fn wrong(field: &'static str, wanted: &str) -> QuestionError {
    let wanted = wanted.to_owned();
    QuestionError::Wrong { field, wanted }
}

/// The names of a fleet step's values.
const FLEET_FIELDS: [&str; 8] = ["hosts", "min", "avg", "p50", "p90", "p95", "p99", "max"];

/// The answer about one host: `[time, value]`, null for a step without a point.
pub fn say_host(question: &Question, steps: &[Step], points: &[(i64, f64)]) -> String {
    let mut out = begin(question);
    let _ = write!(out, "\"points\":[");
    if question.step_ms == 0 {
        for (at, &(time_ms, value)) in points.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(out, "{comma}[{time_ms},");
            number(&mut out, value);
            out.push(']');
        }
    }
    let stat = question.stat.unwrap_or(Stat::Of(Func::Avg));
    for (at, step) in steps.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let time_ms = question.first_step_ms() + at as i64 * question.step_ms;
        let _ = write!(out, "{comma}[{time_ms},");
        number(&mut out, step.value(stat));
        out.push(']');
    }
    out.push_str("]}");
    out
}

/// The answer about the fleet: `[time, value]` for one statistic, else `[time, value, …]` in the
/// order of `fields`.
pub fn say_fleet(question: &Question, steps: &[FleetStep]) -> String {
    let mut out = begin(question);
    if question.stat.is_none() {
        let _ = write!(out, "\"fields\":{:?},", FLEET_FIELDS);
    }
    out.push_str("\"points\":[");
    for (at, step) in steps.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let time_ms = question.first_step_ms() + at as i64 * question.step_ms;
        let _ = write!(out, "{comma}[{time_ms}");
        let all = [
            Func::Count,
            Func::Min,
            Func::Avg,
            Func::P50,
            Func::P90,
            Func::P95,
            Func::P99,
            Func::Max,
        ];
        let one = match question.stat {
            Some(Stat::Of(func)) => [func],
            _ => [Func::Avg],
        };
        let funcs: &[Func] = if question.stat.is_some() { &one } else { &all };
        for &func in funcs {
            out.push(',');
            number(&mut out, step.value(func));
        }
        out.push(']');
    }
    out.push_str("]}");
    out
}

fn begin(question: &Question) -> String {
    let metric = Value::from(question.metric.as_str());
    let host = question.host.as_deref().map_or(Value::Null, Value::from);
    let step = question.step_ms;
    let stat = match question.stat {
        None => String::new(),
        Some(Stat::Last) => "\"stat\":\"last\",".to_owned(),
        Some(Stat::Of(func)) => format!("\"stat\":\"{}\",", func.name()),
    };
    format!("{{\"metric\":{metric},\"host\":{host},\"step_ms\":{step},{stat}")
}

/// The shortest text that reads back as the same number; what is none is null.
fn number(out: &mut String, value: f64) {
    if value.is_finite() {
        out.push_str(zmij::Buffer::new().format_finite(value));
    } else {
        out.push_str("null");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: i64 = 1_763_918_083_000;

    fn parse(query: &str) -> Result<Question, String> {
        Question::parse(query, NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let question = parse("metric=cpu&host=web-1").unwrap();
        assert_eq!(question.to_ms, NOW);
        assert_eq!(question.from_ms, NOW - HISTORY_RANGE_DEFAULT_MS);
        assert_eq!(question.step_ms, 10_000);
        let fleet = parse("metric=disk.used%7Bdevice%3Dsda%7D&from=0&to=1000").unwrap();
        assert_eq!(fleet.metric, "disk.used{device=sda}");
        assert_eq!((fleet.step_ms, fleet.steps()), (10_000, 1));
        let day = parse("metric=cpu&host=a&from=0&to=86400000").unwrap();
        assert_eq!(day.step_ms, 300_000);
        let even = parse("metric=cpu&host=a&from=90000&to=150000&step=60000").unwrap();
        assert_eq!((even.first_step_ms(), even.steps()), (60_000, 2));
    }

    #[test]
    fn bad_questions_hear_what_is_wrong() {
        for (query, expected) in [
            ("", "`metric` must be given"),
            ("metric=", "`metric` must be a text of 1 to 256 bytes"),
            ("metric=cpu&hst=a", "`hst` is not known here"),
            ("metric=cpu&from=x", "`from` must be whole milliseconds"),
            ("metric=cpu&from=-1", "`from` must be whole milliseconds"),
            ("metric=cpu&from=2&to=1", "`from` must be before `to`"),
            (
                "metric=cpu&from=0",
                "`from` must be before `to`, by at most",
            ),
            (
                "metric=cpu&step=1000",
                "`step` must be milliseconds, at least 10000",
            ),
            ("metric=cpu&step=0", "`step` must be"),
            (
                "metric=cpu&host=a&from=0&to=86400000&step=10",
                "`step` must be",
            ),
            (
                "metric=cpu&stat=last",
                "`stat` must be one of min avg max sum count p50",
            ),
            (
                "metric=cpu&host=a&stat=p99",
                "`stat` must be one of min avg max sum count last",
            ),
            ("metric=cpu&metric=b", "`metric` is given twice"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }

    #[test]
    fn a_gap_is_null() {
        let question = parse("metric=cpu&host=a&from=0&to=3000&step=1000").unwrap();
        let mut steps = vec![Step::default(); 3];
        steps[1].add(1_500, 2.5);
        let said = say_host(&question, &steps, &[]);
        let (head, points) = said.split_once("\"points\":").unwrap();
        assert_eq!(head, r#"{"metric":"cpu","host":"a","step_ms":1000,"#);
        assert_eq!(points, "[[0,null],[1000,2.5],[2000,null]]}");
        let question = parse("metric=cpu&from=0&to=20000&stat=p99").unwrap();
        let mut steps = vec![FleetStep::default(); 2];
        steps[0].add(50.0);
        let said = say_fleet(&question, &steps);
        let expected = r#"{"metric":"cpu","host":null,"step_ms":10000,"stat":"p99","points":[[0,"#;
        assert!(said.starts_with(expected), "{said}");
        assert!(said.ends_with("],[10000,null]]}"), "{said}");
    }
}
