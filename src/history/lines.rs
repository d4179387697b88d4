//! What a `lines` view showed: the question and its answer, and how it is made of chosen hosts.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Instant;

use tokio::sync::oneshot;

use super::held::STEPS;
use super::hosts::Hosts;
use super::keeper::Desk;
use super::shelf::ReadError;
use super::walk::Walk;
use super::{FLEET_STEP_MS, minute_of};
use crate::frame::filter::Filter;
use crate::frame::view::Expr;
use crate::limits::{HISTORY_QUESTION_TIMEOUT, LINES_MAX, PAST_ROWS_MAX, PAST_WARM_MINUTES};
use crate::stats::{self, Key, evaluate, key};

/// The lines of a view over whole steps of [`FLEET_STEP_MS`], of which times are multiples.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    pub exprs: Vec<Expr>,
    pub by: Option<String>,
    pub filter: Option<Filter>,
    pub from_ms: i64,
    pub to_ms: i64,
}

/// One line; NaN for a step in which no host had a value.
#[derive(Clone, Debug, PartialEq)]
pub struct PastLine {
    /// Which of the question's expressions.
    pub expr: usize,
    pub group: Option<String>,
    /// One for each step from `from_ms` on.
    pub values: Vec<f64>,
}

/// None: there is no answer, now or at all.
pub type Reply = oneshot::Sender<Option<Vec<PastLine>>>;

impl Lines {
    pub fn steps(&self) -> usize {
        let span = self.to_ms.saturating_sub(self.from_ms).max(0);
        (span / FLEET_STEP_MS) as usize
    }

    pub fn is_of_all(&self) -> bool {
        self.by.is_none() && self.filter.is_none()
    }

    /// Each metric once.
    fn metrics(&self) -> Vec<&str> {
        let mut metrics: Vec<&str> = Vec::new();
        for expr in &self.exprs {
            if !metrics.contains(&&*expr.metric) {
                metrics.push(&expr.metric);
            }
        }
        metrics
    }

    /// The minutes that are read for so many series, the latest ones, and how many of them only
    /// to know what stood before the first that is shown.
    fn minutes(&self, series: usize) -> (RangeInclusive<i64>, i64) {
        let (first, last) = (minute_of(self.from_ms).0, minute_of(self.to_ms - 1).0);
        let most = (PAST_ROWS_MAX / series.max(1)) as i64;
        let most = most.max(PAST_WARM_MINUTES + 1);
        let begin = (first - PAST_WARM_MINUTES).max(last + 1 - most);
        (begin..=last, PAST_WARM_MINUTES)
    }
}

/// The lines of hosts that a filter chose, or by the value of a tag: as the live wall works them
/// out, in its order. Of more hosts than can be read the earlier part is a gap.
pub fn of_chosen(
    question: &Lines,
    hosts: &Hosts,
    desk: &Desk,
    dir: &Path,
) -> Result<Vec<PastLine>, ReadError> {
    let chosen = Chosen::new(question, hosts);
    let bags = chosen.groups.as_ref().map_or(1, Vec::len);
    let lines = question
        .exprs
        .iter()
        .enumerate()
        .flat_map(|(expr, _)| (0..bags).map(move |bag| (expr, bag)));
    let line = |(expr, bag): (usize, usize)| PastLine {
        expr,
        group: chosen.groups.as_ref().map(|groups| groups[bag].clone()),
        values: vec![f64::NAN; question.steps()],
    };
    let mut lines: Vec<PastLine> = lines.map(line).collect();
    let until = Instant::now() + HISTORY_QUESTION_TIMEOUT;
    let metrics = question.metrics();
    let (minutes, warm) = question.minutes(metrics.len() * chosen.names.len());
    for metric in metrics {
        let names = chosen.names.iter().map(|name| Some(*name));
        let mut walk = Walk::begin(desk, dir, metric, names, minutes.clone(), until)?;
        let mut keys: Vec<Vec<Key>> = vec![Vec::new(); bags];
        for minute in minutes.clone() {
            let values = walk.minute(minute)?;
            if minute < minutes.start() + warm {
                continue;
            }
            for step in 0..STEPS {
                let begin = minute * STEPS as i64 + step as i64;
                let at = begin - question.from_ms.div_euclid(FLEET_STEP_MS);
                let Some(at) = usize::try_from(at).ok().filter(|at| *at < question.steps()) else {
                    continue;
                };
                chosen.fill(&values, step, &mut keys);
                for (expr, of) in question.exprs.iter().enumerate() {
                    if of.metric != metric {
                        continue;
                    }
                    for (bag, keys) in keys.iter_mut().enumerate().filter(|(_, k)| !k.is_empty()) {
                        lines[expr * bags + bag].values[at] = evaluate(of.func, keys);
                    }
                }
            }
        }
    }
    Ok(lines)
}

/// The hosts that count, and the bag of each.
struct Chosen<'a> {
    names: Vec<&'a str>,
    of: Vec<u16>,
    /// None: there is one bag, and it has no name.
    groups: Option<Vec<String>>,
}

impl<'a> Chosen<'a> {
    fn new(question: &'a Lines, hosts: &'a Hosts) -> Self {
        let rows = hosts.chosen(question.filter.as_ref());
        let Some(by) = &question.by else {
            let names: Vec<&str> = rows.flatten().map(|(name, _)| name).collect();
            return Self {
                of: vec![0; names.len()],
                names,
                groups: None,
            };
        };
        let (of, mut groups) = stats::group(by, rows.clone().map(|row| Some(row?.1)));
        groups.truncate(LINES_MAX / question.exprs.len().max(1));
        let counts = |group: &u16| usize::from(*group) < groups.len();
        let counted = rows.zip(of).filter(|(_, group)| counts(group));
        let counted = counted.filter_map(|(row, group)| Some((row?.0, group)));
        let (names, of) = counted.unzip();
        Self {
            names,
            of,
            groups: Some(groups),
        }
    }

    /// Empties the bags and fills them with what hosts show in a step.
    fn fill(&self, values: &[[f64; STEPS]], step: usize, bags: &mut [Vec<Key>]) {
        bags.iter_mut().for_each(Vec::clear);
        for (values, &group) in values.iter().zip(&self.of) {
            let value = values[step];
            if !value.is_nan() {
                bags[usize::from(group)].push(key(value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
