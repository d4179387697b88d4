//! Steps of the fleet that are in no store yet, made of what is in memory and of what stood when
//! the last minute was stored.

use std::collections::HashMap;

use super::FLEET_STEP_MS;
use super::held::Held;
use super::recent::{Away, Found};
use super::steps::FleetStep;

/// Which steps: from the first that no store has to the one before `until`.
#[derive(Clone, Copy, Debug)]
pub struct Unfolded {
    pub first: i64,
    pub until: i64,
    /// Nothing stands later than now.
    pub now_ms: i64,
    pub away: Away,
}

impl Unfolded {
    /// `found` are the last points of series in steps, in any order; what is of steps that a store
    /// has came late, and counts as another host.
    pub fn steps(
        self,
        mut held: HashMap<i64, Held>,
        mut found: Vec<(i64, i64, Found)>,
    ) -> HashMap<i64, FleetStep> {
        let mut steps: HashMap<i64, FleetStep> = HashMap::new();
        found.sort_by_key(|(series, _, point)| (*series, point.time_ms));
        for of_one in found.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(series, ..)) = of_one.first() else {
                continue;
            };
            let mut held = held.remove(&series).unwrap_or(Held::NONE);
            let mut next = self.first;
            for of_step in of_one.chunk_by(|a, b| a.1 == b.1) {
                let Some(&(_, step, point)) = of_step.last() else {
                    continue;
                };
                self.stand(&held, next..step, &mut steps);
                steps.entry(step).or_default().add(point.value);
                held.hear_last(point.time_ms, point.value, point.rhythm);
                next = next.max(step + 1);
            }
            self.stand(&held, next..self.until, &mut steps);
        }
        for held in held.values() {
            self.stand(held, self.first..self.until, &mut steps);
        }
        steps
    }

    fn stand(self, held: &Held, range: std::ops::Range<i64>, steps: &mut HashMap<i64, FleetStep>) {
        for step in range {
            let end_ms = (step + 1) * FLEET_STEP_MS;
            if !held.stands(end_ms.min(self.now_ms)) {
                return;
            }
            if !self.away.has(step) {
                steps.entry(step).or_default().add(held.value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::view::Func;
    use crate::history::journal::Position;
    use crate::rhythm::Rhythm;

    fn rhythm(gap_ms: u64) -> Rhythm {
        let mut rhythm = Rhythm::UNKNOWN;
        rhythm.learn(gap_ms);
        rhythm
    }

    fn found(series: i64, time_ms: i64, value: f64, gap_ms: u64) -> (i64, i64, Found) {
        let point = Found {
            time_ms,
            value,
            rhythm: rhythm(gap_ms),
            after: Position(0),
        };
        (series, time_ms.div_euclid(FLEET_STEP_MS), point)
    }

    fn told(unfolded: Unfolded, found: Vec<(i64, i64, Found)>) -> Vec<(f64, f64)> {
        let held = Held {
            heard_ms: 90_000,
            value: 7.0,
            rhythm: rhythm(3_000),
        };
        let steps = unfolded.steps(HashMap::from([(1, held)]), found);
        let of = |step| {
            let step = steps.get(&step).cloned().unwrap_or_default();
            (step.value(Func::Count), step.value(Func::Max))
        };
        let told = (8..16).map(of);
        let none = |v: f64| if v.is_nan() { -1.0 } else { v };
        told.map(|(count, max)| (none(count), none(max))).collect()
    }

    #[test]
    fn each_series_counts_once_a_step_as_long_as_it_stands() {
        let all = Unfolded {
            first: 10,
            until: 16,
            now_ms: 200_000,
            away: Away::default(),
        };
        let none = (-1.0, -1.0);
        // Held at 90 s with a rhythm of 3 s: gone after 120 s.
        let only_held = [none, none, (1.0, 7.0), (1.0, 7.0), none, none, none, none];
        assert_eq!(told(all, Vec::new()), only_held);
        // Two writes that wait have a point each in one step; another is late.
        let points = vec![
            found(2, 115_000, 1.0, 1_000),
            found(2, 112_000, 9.0, 1_000),
            found(2, 131_000, 2.0, 30_000),
            found(3, 85_000, 4.0, 1_000),
        ];
        let expected = [
            (1.0, 4.0),
            none,
            (1.0, 7.0),
            (2.0, 7.0),
            none,
            (1.0, 2.0),
            (1.0, 2.0),
            (1.0, 2.0),
        ];
        assert_eq!(told(all, points.clone()), expected);
        let away = Away { left: 10, came: 13 };
        let told_away = told(Unfolded { away, ..all }, points);
        assert_eq!(told_away[3..5], [(1.0, 1.0), none], "its own points count");
    }
}
