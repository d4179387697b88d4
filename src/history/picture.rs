//! What a map showed at a time: the question, its answer, and the minutes kept from one question
//! of a replay to the next.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::block::MINUTE_MS;
use super::held::{Held, STEPS};
use super::hosts::Hosts;
use super::keeper::Desk;
use super::lines::{Chosen, Lines, PastLine};
use super::shelf::ReadError;
use super::walk::Walk;
use super::{FLEET_STEP_MS, minute_of};
use crate::catalog::Catalog;
use crate::frame::State;
use crate::frame::filter::Filter;
use crate::limits::{
    HISTORY_QUESTION_TIMEOUT, PAST_WARM_MINUTES, PICTURE_MINUTES_MAX, PICTURE_REST,
};

/// What stands for each host in the [`FLEET_STEP_MS`] that end at `at_ms`, a multiple of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub metric: String,
    pub filter: Option<Filter>,
    pub at_ms: i64,
    pub now_ms: i64,
}

/// By the slots of now: a host that has none now is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// NaN: none in the step.
    pub values: Vec<f64>,
    /// [`State::Ok`] of a host that the filter lets through: its state of then is not kept.
    pub states: Vec<State>,
}

/// None: there is no answer, now or at all.
pub type Reply = oneshot::Sender<Option<Shown>>;

/// Invariants: at most [`PICTURE_MINUTES_MAX`] minutes, the one used last at the end, and all are
/// by the slots that `hosts` has.
pub struct Pictures {
    hosts: Hosts,
    minutes: Vec<Minute>,
    used: Instant,
}

struct Minute {
    metric: String,
    minute: i64,
    /// Steps that were not over then must be read again.
    read_ms: i64,
    /// By slot: what each step shows, NaN where that is nothing.
    values: Vec<[f64; STEPS]>,
    /// By slot, at its end.
    held: Vec<Held>,
}

impl Minute {
    fn is_of(&self, metric: &str, minute: i64) -> bool {
        self.metric == metric && self.minute == minute
    }
}

impl Pictures {
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            hosts: Hosts::new(catalog),
            minutes: Vec::new(),
            used: Instant::now(),
        }
    }

    /// Lets go of what nobody asks for any more.
    pub fn rest(&mut self) {
        if PICTURE_REST <= self.used.elapsed() {
            self.minutes = Vec::new();
            self.hosts.forget();
        }
    }

    pub fn answer(
        &mut self,
        question: &Picture,
        desk: &Desk,
        dir: &Path,
    ) -> Result<Shown, ReadError> {
        self.refresh();
        let (minute, offset_ms) = minute_of(question.at_ms - FLEET_STEP_MS);
        let step = usize::from(offset_ms) / FLEET_STEP_MS as usize;
        let (at_ms, now_ms) = (question.at_ms, question.now_ms);
        let known = self.take(&question.metric, minute, at_ms);
        let known = match known {
            Some(known) => known,
            None => self.read(&question.metric, minute, now_ms, desk, dir)?,
        };
        let shown = show(&self.hosts, &known, step, question.filter.as_ref());
        self.keep(known);
        Ok(shown)
    }

    /// The lines of one step, of chosen hosts: by the minutes that maps are made of.
    pub fn lines(
        &mut self,
        question: &Lines,
        desk: &Desk,
        dir: &Path,
    ) -> Result<Vec<PastLine>, ReadError> {
        self.refresh();
        let (minute, offset_ms) = minute_of(question.from_ms);
        let step = usize::from(offset_ms) / FLEET_STEP_MS as usize;
        let mut minutes = Vec::new();
        for metric in question.metrics() {
            let known = self.take(metric, minute, question.to_ms);
            minutes.push(match known {
                Some(known) => known,
                None => self.read(metric, minute, question.to_ms, desk, dir)?,
            });
        }
        let mut chosen = Chosen::new(question, &self.hosts);
        let slots: Vec<usize> = chosen.hosts.iter().map(|(slot, _)| *slot).collect();
        for known in &minutes {
            let values = slots.iter().map(|&slot| known.values[slot][step]);
            chosen.tell(&known.metric, question.from_ms / FLEET_STEP_MS, values);
        }
        let lines = chosen.lines;
        minutes.into_iter().for_each(|minute| self.keep(minute));
        Ok(lines)
    }

    /// The hosts of now.
    pub fn refresh(&mut self) -> &Hosts {
        self.used = Instant::now();
        if self.hosts.refresh() {
            self.minutes.clear();
        }
        &self.hosts
    }

    /// A minute that is known as far as `until_ms`.
    fn take(&mut self, metric: &str, minute: i64, until_ms: i64) -> Option<Minute> {
        let is_sought = |known: &Minute| known.is_of(metric, minute) && until_ms <= known.read_ms;
        let at = self.minutes.iter().position(is_sought)?;
        Some(self.minutes.remove(at))
    }

    fn keep(&mut self, minute: Minute) {
        self.minutes
            .retain(|known| !known.is_of(&minute.metric, minute.minute));
        if PICTURE_MINUTES_MAX <= self.minutes.len() {
            self.minutes.remove(0);
        }
        self.minutes.push(minute);
    }

    /// From the minute before, if that is known to its end, or from far enough back.
    fn read(
        &mut self,
        metric: &str,
        minute: i64,
        now_ms: i64,
        desk: &Desk,
        dir: &Path,
    ) -> Result<Minute, ReadError> {
        let before = self.take(metric, minute - 1, minute * MINUTE_MS);
        let first = match before {
            Some(_) => minute,
            None => minute - PAST_WARM_MINUTES,
        };
        let until = Instant::now() + HISTORY_QUESTION_TIMEOUT;
        let names = self
            .hosts
            .chosen(None)
            .map(|host| host.map(|(name, _)| name));
        let mut walk = Walk::begin(desk, dir, metric, names, first..=minute, until)?;
        if let Some(before) = before {
            walk.go_on(&before.held);
            // Who replays more slowly may still be in it.
            self.keep(before);
        }
        for earlier in first..minute {
            walk.minute(earlier)?;
        }
        Ok(Minute {
            metric: metric.to_owned(),
            minute,
            read_ms: now_ms,
            values: walk.minute(minute)?,
            held: walk.held(),
        })
    }
}

fn show(hosts: &Hosts, minute: &Minute, step: usize, filter: Option<&Filter>) -> Shown {
    let mut shown = Shown {
        values: vec![f64::NAN; hosts.slots()],
        states: vec![State::None; hosts.slots()],
    };
    for (slot, host) in hosts.chosen(filter).enumerate() {
        if host.is_some() {
            shown.states[slot] = State::Ok;
            shown.values[slot] = minute.values[slot][step];
        }
    }
    shown
}

#[cfg(test)]
mod tests;
