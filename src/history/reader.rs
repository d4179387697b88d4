//! The thread that answers questions about the past, from memory and stores together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::block::MINUTE_MS;
use super::keeper::Desk;
use super::lines::{self, Lines, PastLine};
use super::picture::{self, Picture, Pictures};
use super::question::{Question, say_fleet, say_host};
use super::recent::Found;
use super::remote::Remote;
use super::shelf::{ReadError, Shelf};
use super::steps::{FleetStep, Grid, Range, Step};
use super::unfolded::Unfolded;
use super::{FLEET_STEP_MS, metric_key, series_key, writer};
use crate::catalog::name;
use crate::clock;
use crate::limits::{
    HISTORY_POINTS_ANSWERED_MAX, PAST_LINES_KEPT, PAST_WARM_MINUTES, PICTURE_REST,
};
use crate::observe::History as Counters;

/// A question that waits. Whoever asked may go away.
pub enum Asked {
    Query {
        question: Question,
        reply: oneshot::Sender<Answer>,
    },
    Lines {
        question: Lines,
        reply: lines::Reply,
    },
    Picture {
        question: Picture,
        reply: picture::Reply,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Body(Bytes),
    /// This host, or this metric, is not known in the range.
    UnknownHost,
    UnknownMetric,
    /// More points than one answer has place for.
    TooMany,
    /// It took too long, or the store cannot be read.
    Busy,
}

pub struct Reader {
    pub asked: Receiver<Asked>,
    pub desk: Arc<Desk>,
    pub dir: PathBuf,
    pub counters: Arc<Counters>,
    /// The database that other nodes write to as well.
    pub remote: Option<Remote>,
    pub pictures: Pictures,
    /// Lines of chosen hosts that were told, the latest last.
    pub told: Vec<(Lines, Vec<PastLine>)>,
}

impl Reader {
    /// The thread's whole life; over when nobody can ask any more.
    pub fn run(mut self) {
        writer::yield_to_others();
        loop {
            let asked = match self.asked.recv_timeout(PICTURE_REST) {
                Ok(asked) => asked,
                Err(RecvTimeoutError::Timeout) => {
                    self.pictures.rest();
                    self.told.clear();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match asked {
                Asked::Query { question, reply } if !reply.is_closed() => {
                    let answer = self.answer(&question);
                    let answer = self.count(answer);
                    let _ = reply.send(answer.unwrap_or_else(|error| match error {
                        ReadError::TooMany => Answer::TooMany,
                        _ => Answer::Busy,
                    }));
                }
                Asked::Lines { question, reply } if !reply.is_closed() => {
                    let answer = self.lines(&question);
                    let answer = self.count(answer);
                    let _ = reply.send(answer.ok());
                }
                Asked::Picture { question, reply } if !reply.is_closed() => {
                    let answer = self.pictures.answer(&question, &self.desk, &self.dir);
                    let answer = self.count(answer);
                    let _ = reply.send(answer.ok());
                }
                _ => {}
            }
            self.pictures.rest();
        }
    }

    fn count<T>(&self, answer: Result<T, ReadError>) -> Result<T, ReadError> {
        self.counters.queries.add(1);
        if let Err(error) = &answer {
            self.counters.queries_refused.add(1);
            if !matches!(error, ReadError::TooMany) {
                tracing::warn!(%error, "a question about history has no answer");
            }
        }
        answer
    }

    /// Viewers that come back together ask the same.
    fn lines(&mut self, question: &Lines) -> Result<Vec<PastLine>, ReadError> {
        if question.is_of_all() {
            return self.lines_of_all(question);
        }
        if question.steps() == 1 {
            return self.pictures.lines(question, &self.desk, &self.dir);
        }
        if let Some((_, lines)) = self.told.iter().find(|(asked, _)| asked == question) {
            return Ok(lines.clone());
        }
        let hosts = self.pictures.refresh();
        let lines = lines::of_chosen(question, hosts, &self.desk, &self.dir)?;
        if PAST_LINES_KEPT <= self.told.len() {
            self.told.remove(0);
        }
        self.told.push((question.clone(), lines.clone()));
        Ok(lines)
    }

    /// Each metric once.
    fn lines_of_all(&mut self, question: &Lines) -> Result<Vec<PastLine>, ReadError> {
        let range = Range {
            from_ms: question.from_ms,
            to_ms: question.to_ms,
        };
        let grid = Grid {
            range,
            first_ms: question.from_ms,
            step_ms: FLEET_STEP_MS,
        };
        let mut read: HashMap<&str, Vec<FleetStep>> = HashMap::new();
        let mut lines = Vec::with_capacity(question.exprs.len());
        for (at, expr) in question.exprs.iter().enumerate() {
            if !read.contains_key(&*expr.metric) {
                let metric = metric_key(&name::canonical(&expr.metric));
                let steps = self.fleet_steps(metric, grid, question.steps())?;
                read.insert(&expr.metric, steps.unwrap_or_default());
            }
            let known = read[&*expr.metric].iter().map(|step| step.value(expr.func));
            let mut values: Vec<f64> = known.collect();
            values.resize(question.steps(), f64::NAN);
            lines.push(PastLine {
                expr: at,
                group: None,
                values,
            });
        }
        Ok(lines)
    }

    fn answer(&mut self, question: &Question) -> Result<Answer, ReadError> {
        let metric = name::canonical(&question.metric);
        let range = Range {
            from_ms: question.from_ms,
            to_ms: question.to_ms,
        };
        match &question.host {
            Some(host) => self.host(question, range, series_key(host, &metric), &metric),
            None => self.fleet(question, metric_key(&metric)),
        }
    }

    fn host(
        &mut self,
        question: &Question,
        range: Range,
        key: i64,
        metric: &str,
    ) -> Result<Answer, ReadError> {
        let mut found: Vec<Found> = Vec::new();
        let known = {
            let recent = self.desk.recent();
            let span = (range.from_ms, range.to_ms);
            recent.each_point(metric_key(metric), Some(key), span, |_, point| {
                found.push(point);
            });
            recent.knows(|name| name.key == key)
        };
        let shelf = Shelf::open(&self.dir, range)?;
        found.retain(|point| !shelf.has(point.time_ms, point.after));
        let others = match &mut self.remote {
            Some(remote) => remote.rows(key, range, &shelf),
            None => Vec::new(),
        };
        let is_known = known || !found.is_empty() || !others.is_empty();
        if !is_known && !shelf.knows(metric_key(metric), Some(key))? {
            return Ok(Answer::UnknownHost);
        }
        let mut scratch = Vec::new();
        let mut points: Vec<(i64, f64)> = Vec::new();
        let mut steps = vec![Step::default(); question.steps()];
        if question.step_ms == 0 {
            let mut add = |time_ms, value| points.push((time_ms, value));
            shelf.each_point(key, range, &mut add)?;
            for row in &others {
                range.each_point(row, &mut scratch, &mut add);
            }
            points.extend(found.iter().map(|point| (point.time_ms, point.value)));
            points.sort_by_key(|&(time_ms, _)| time_ms);
            if HISTORY_POINTS_ANSWERED_MAX < points.len() {
                return Err(ReadError::TooMany);
            }
        } else {
            let grid = question.grid();
            shelf.sum_up(key, grid, &mut steps)?;
            for row in &others {
                grid.add_row(row, &mut scratch, &mut steps);
            }
            for point in &found {
                if let Some(step) = grid.at(point.time_ms, &mut steps) {
                    step.add(point.time_ms, point.value);
                }
            }
        }
        Ok(Answer::Body(say_host(question, &steps, &points).into()))
    }

    fn fleet(&mut self, question: &Question, metric: i64) -> Result<Answer, ReadError> {
        let mut grid = question.grid();
        // Whole steps of what is kept: the answer's steps are multiples of them.
        grid.range.from_ms = grid.first_ms;
        let steps = self.fleet_steps(metric, grid, question.steps())?;
        Ok(steps.map_or(Answer::UnknownMetric, |steps| {
            Answer::Body(say_fleet(question, &steps).into())
        }))
    }

    /// None: the metric is not known in the range.
    fn fleet_steps(
        &mut self,
        metric: i64,
        grid: Grid,
        count: usize,
    ) -> Result<Option<Vec<FleetStep>>, ReadError> {
        let range = grid.range;
        let mut found: Vec<(i64, i64, Found)> = Vec::new();
        let (known, away) = {
            let recent = self.desk.recent();
            // What stands in the first steps was said before them.
            let warm_ms = PAST_WARM_MINUTES * MINUTE_MS;
            let span = (range.from_ms - warm_ms, range.to_ms);
            recent.each_last(metric, span, FLEET_STEP_MS, |name, step, point| {
                found.push((name.key, step, point));
            });
            (recent.knows(|name| name.metric_key == metric), recent.away)
        };
        let shelf = Shelf::open(&self.dir, range)?;
        found.retain(|(_, _, point)| !shelf.has(point.time_ms, point.after));
        let others = match &mut self.remote {
            Some(remote) => remote.fleet(metric, range, &shelf),
            None => Vec::new(),
        };
        let is_known = known || !found.is_empty() || !others.is_empty();
        if !is_known && !shelf.knows(metric, None)? {
            return Ok(None);
        }
        let mut steps = vec![FleetStep::default(); count];
        // Hosts of several nodes in the same ten seconds are so many more, hosts of two times not.
        let mut hosts: HashMap<i64, u64> = HashMap::new();
        for row in &others {
            let hosts = hosts.entry(row.step).or_default();
            *hosts += row.hosts;
            if let Some(step) = grid.at(row.step * FLEET_STEP_MS, &mut steps) {
                step.merge_row(row, *hosts);
            }
        }
        let now_ms = clock::wall_ms();
        let first = found.iter().map(|(_, step, _)| *step).min();
        let unfolded = Unfolded {
            first: shelf.first_unfolded().or(first).unwrap_or(i64::MAX),
            until: (range.to_ms - 1).min(now_ms).div_euclid(FLEET_STEP_MS) + 1,
            now_ms,
            away,
        };
        let mut parts = unfolded.steps(shelf.held(metric)?, found);
        for (&at, part) in &mut parts {
            part.join(hosts.get(&at).copied().unwrap_or_default());
            if let Some(step) = grid.at(at * FLEET_STEP_MS, &mut steps) {
                step.merge(part);
            }
        }
        shelf.sum_up_fleet(metric, grid, &hosts, &mut steps)?;
        Ok(Some(steps))
    }
}

#[cfg(test)]
mod tests;
