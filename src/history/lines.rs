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
    pub fn metrics(&self) -> Vec<&str> {
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
    let mut chosen = Chosen::new(question, hosts);
    let until = Instant::now() + HISTORY_QUESTION_TIMEOUT;
    let metrics = question.metrics();
    let (minutes, warm) = question.minutes(metrics.len() * chosen.hosts.len());
    for metric in metrics {
        let names = chosen.hosts.iter().map(|(_, name)| Some(*name));
        let mut walk = Walk::begin(desk, dir, metric, names, minutes.clone(), until)?;
        for minute in minutes.clone() {
            let values = walk.minute(minute)?;
            if minutes.start() + warm <= minute {
                for step in 0..STEPS {
                    let of_step = values.iter().map(|values| values[step]);
                    chosen.tell(metric, minute * STEPS as i64 + step as i64, of_step);
                }
            }
        }
    }
    Ok(chosen.lines)
}

/// The hosts that count, the bag of each, and what is told of them so far.
pub struct Chosen<'a> {
    question: &'a Lines,
    /// With their slots.
    pub hosts: Vec<(usize, &'a str)>,
    of: Vec<u16>,
    bags: Vec<Vec<Key>>,
    pub lines: Vec<PastLine>,
}

impl<'a> Chosen<'a> {
    pub fn new(question: &'a Lines, hosts: &'a Hosts) -> Self {
        let rows = hosts.chosen(question.filter.as_ref());
        let (of, groups) = match &question.by {
            None => (vec![0; hosts.slots()], None),
            Some(by) => {
                let (of, mut names) = stats::group(by, rows.clone().map(|row| Some(row?.1)));
                names.truncate(LINES_MAX / question.exprs.len().max(1));
                (of, Some(names))
            }
        };
        let bags = groups.as_ref().map_or(1, Vec::len);
        let rows = rows.enumerate().zip(of);
        let counted = rows.filter(|(_, group)| usize::from(*group) < bags);
        let counted = counted.filter_map(|((slot, row), group)| Some(((slot, row?.0), group)));
        let (hosts, of) = counted.unzip();
        let line = |at: usize| PastLine {
            expr: at / bags,
            group: groups.as_ref().map(|names| names[at % bags].clone()),
            values: vec![f64::NAN; question.steps()],
        };
        Self {
            question,
            hosts,
            of,
            bags: vec![Vec::new(); bags],
            lines: (0..question.exprs.len() * bags).map(line).collect(),
        }
    }

    /// What the hosts show of a metric in a step, if that is asked for.
    pub fn tell(&mut self, metric: &str, step: i64, values: impl Iterator<Item = f64>) {
        let at = step - self.question.from_ms.div_euclid(FLEET_STEP_MS);
        let at = usize::try_from(at).ok();
        let Some(at) = at.filter(|at| *at < self.question.steps()) else {
            return;
        };
        self.bags.iter_mut().for_each(Vec::clear);
        for (value, &group) in values.zip(&self.of) {
            if !value.is_nan() {
                self.bags[usize::from(group)].push(key(value));
            }
        }
        let bags = self.bags.len();
        for (expr, of) in self.question.exprs.iter().enumerate() {
            if of.metric == metric {
                let heard = self.bags.iter_mut().enumerate();
                for (bag, keys) in heard.filter(|(_, keys)| !keys.is_empty()) {
                    self.lines[expr * bags + bag].values[at] = evaluate(of.func, keys);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
