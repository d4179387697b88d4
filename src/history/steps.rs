//! What falls into one step of an answer.

use super::block::{self, MINUTE_MS, Point};
use super::question::Stat;
use super::sketch::Sketch;
use super::sqlite::MINUTES_A_DAY;
use super::{FleetRow, Rollup, Row, minute_of};
use crate::frame::view::Func;

/// The time that a question is about.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub from_ms: i64,
    pub to_ms: i64,
}

impl Range {
    pub fn days(self) -> std::ops::RangeInclusive<i64> {
        let day = |ms| minute_of(ms).0.div_euclid(MINUTES_A_DAY);
        day(self.from_ms)..=day(self.to_ms)
    }

    pub fn has(self, time_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&time_ms)
    }

    /// Calls for each point of a row that is in the range; a minute without its points comes as
    /// one, the average at its begin. `points` is scratch.
    pub fn each_point(self, row: &Row, points: &mut Vec<Point>, each: &mut impl FnMut(i64, f64)) {
        let begin_ms = row.minute * MINUTE_MS;
        if row.points.is_empty() || block::decode(&row.points, points).is_err() {
            if self.has(begin_ms) {
                each(begin_ms, row.rollup.average());
            }
            return;
        }
        for point in points {
            let time_ms = begin_ms + i64::from(point.offset_ms);
            if self.has(time_ms) {
                each(time_ms, point.value);
            }
        }
    }
}

/// The steps that a range is told in.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub range: Range,
    /// When the first one begins.
    pub first_ms: i64,
    pub step_ms: i64,
}

impl Grid {
    /// The step that a time is in.
    pub fn at<T>(self, time_ms: i64, steps: &mut [T]) -> Option<&mut T> {
        let at = (time_ms - self.first_ms).div_euclid(self.step_ms);
        steps.get_mut(usize::try_from(at).ok()?)
    }

    /// Adds a minute: by its sums where steps are whole minutes, else point by point. `points` is
    /// scratch.
    pub fn add_row(self, row: &Row, points: &mut Vec<Point>, steps: &mut [Step]) {
        let (begin_ms, end_ms) = (row.minute * MINUTE_MS, (row.minute + 1) * MINUTE_MS);
        let is_within = self.range.from_ms <= begin_ms && end_ms <= self.range.to_ms;
        let is_whole = is_within && self.step_ms % MINUTE_MS == 0;
        if is_whole || block::decode(&row.points, points).is_err() {
            if let Some(step) = self.at(begin_ms, steps) {
                step.merge(end_ms - 1, &row.rollup);
            }
            return;
        }
        for point in points {
            let time_ms = begin_ms + i64::from(point.offset_ms);
            if self.range.has(time_ms)
                && let Some(step) = self.at(time_ms, steps)
            {
                step.add(time_ms, point.value);
            }
        }
    }
}

/// A step of one host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    rollup: Rollup,
    last_ms: i64,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            rollup: Rollup::EMPTY,
            last_ms: i64::MIN,
        }
    }
}

impl Step {
    pub fn add(&mut self, time_ms: i64, value: f64) {
        let mut one = Rollup::EMPTY;
        one.add(value);
        self.merge(time_ms, &one);
    }

    /// Points of which `last` came at `last_ms`, or not later.
    pub fn merge(&mut self, last_ms: i64, rollup: &Rollup) {
        let before = self.rollup.last;
        self.rollup.merge(rollup);
        if last_ms < self.last_ms {
            self.rollup.last = before;
        }
        self.last_ms = self.last_ms.max(last_ms);
    }

    /// NaN: there is no point.
    pub fn value(&self, stat: Stat) -> f64 {
        let Rollup {
            count,
            sum,
            min,
            max,
            last,
        } = self.rollup;
        if count == 0 {
            return f64::NAN;
        }
        match stat {
            Stat::Last => last,
            Stat::Of(Func::Min) => min,
            Stat::Of(Func::Max) => max,
            Stat::Of(Func::Sum) => sum,
            Stat::Of(Func::Count) => count as f64,
            Stat::Of(_) => sum / count as f64,
        }
    }
}

/// A step of the fleet: every host by its last value in each ten seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetStep {
    /// The most hosts that any ten seconds of it had.
    hosts: u64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    sketch: Sketch,
}

impl Default for FleetStep {
    fn default() -> Self {
        Self {
            hosts: 0,
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sketch: Sketch::default(),
        }
    }
}

impl FleetStep {
    /// One host's value.
    pub fn add(&mut self, value: f64) {
        self.hosts += 1;
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sketch.add(value);
    }

    /// A part of the step: hosts are the same ones in every part.
    pub fn merge(&mut self, part: &FleetStep) {
        self.hosts = self.hosts.max(part.hosts);
        self.count += part.count;
        self.sum += part.sum;
        self.min = self.min.min(part.min);
        self.max = self.max.max(part.max);
        self.sketch.merge(&part.sketch);
    }

    /// So many hosts of others had values at the same time.
    pub fn join(&mut self, hosts: u64) {
        self.hosts += hosts;
    }

    /// The same of a stored one. A damaged spread leaves percentiles to the others.
    pub fn merge_row(&mut self, row: &FleetRow, hosts: u64) {
        self.hosts = self.hosts.max(hosts);
        self.count += row.hosts;
        self.sum += row.sum;
        self.min = self.min.min(row.min);
        self.max = self.max.max(row.max);
        let _ = self.sketch.merge_encoded(&mut &*row.spread);
    }

    /// NaN: there is no host.
    pub fn value(&self, func: Func) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        let quantile = |q| self.sketch.quantile(q).clamp(self.min, self.max);
        match func {
            Func::Count => self.hosts as f64,
            Func::Min => self.min,
            Func::Max => self.max,
            Func::Avg => self.sum / self.count as f64,
            // Of hosts at one time, not of times.
            Func::Sum => self.sum / self.count as f64 * self.hosts as f64,
            Func::P50 => quantile(0.50),
            Func::P90 => quantile(0.90),
            Func::P95 => quantile(0.95),
            Func::P99 => quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_is_that_of_the_latest_time() {
        let mut step = Step::default();
        assert!(step.value(Stat::Last).is_nan());
        for (time_ms, value) in [(5, 1.0), (9, 2.0), (7, 6.0)] {
            step.add(time_ms, value);
        }
        let funcs = [Func::Min, Func::Max, Func::Avg, Func::Sum, Func::Count];
        assert_eq!(
            funcs.map(|func| step.value(Stat::Of(func))),
            [1.0, 6.0, 3.0, 9.0, 3.0]
        );
        assert_eq!(step.value(Stat::Last), 2.0);
    }

    #[test]
    fn parts_of_a_fleet_s_step_are_the_same_hosts() {
        let part = |values: &[f64]| {
            let mut part = FleetStep::default();
            values.iter().for_each(|&value| part.add(value));
            part
        };
        let mut step = FleetStep::default();
        assert!(step.value(Func::P99).is_nan());
        step.merge(&part(&[10.0, 20.0]));
        step.merge(&part(&[30.0, 40.0, 50.0]));
        assert_eq!(step.value(Func::Count), 3.0);
        assert_eq!(step.value(Func::Avg), 30.0);
        assert_eq!(step.value(Func::Sum), 90.0);
        assert_eq!([step.value(Func::Min), step.value(Func::Max)], [10.0, 50.0]);
        assert!((step.value(Func::P50) / 30.0 - 1.0).abs() < 0.0101);
    }
}
