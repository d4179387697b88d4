//! What stands for a series between its points: its last value, as long as the live wall would show
//! a host of that rhythm.

use super::FLEET_STEP_MS;
use super::block::MINUTE_MS;
use crate::rhythm::{GAP_MIN_MS, Rhythm};

/// Fleet steps of a minute.
pub const STEPS: usize = (MINUTE_MS / FLEET_STEP_MS) as usize;

/// A series as far as its points have been told, in order of time.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// To within the shortest gap that counts; `i64::MIN` before the first point.
    pub heard_ms: i64,
    pub value: f64,
    pub rhythm: Rhythm,
}

impl Held {
    pub const NONE: Held = Held {
        heard_ms: i64::MIN,
        value: f64::NAN,
        rhythm: Rhythm::UNKNOWN,
    };

    /// A point; one earlier than the last is none.
    #[inline]
    pub fn hear(&mut self, time_ms: i64, value: f64) {
        if time_ms < self.heard_ms {
            return;
        }
        self.value = value;
        if self.heard_ms == i64::MIN {
            self.heard_ms = time_ms;
            return;
        }
        let gap_ms = time_ms.abs_diff(self.heard_ms);
        if GAP_MIN_MS <= gap_ms {
            self.rhythm.learn(gap_ms);
            self.heard_ms = time_ms;
        }
    }

    /// The last of many points, in which somebody else learnt a rhythm, or did not.
    pub fn hear_last(&mut self, time_ms: i64, value: f64, rhythm: Rhythm) {
        if rhythm.is_known() && self.heard_ms <= time_ms {
            (self.heard_ms, self.value, self.rhythm) = (time_ms, value, rhythm);
        } else {
            self.hear(time_ms, value);
        }
    }

    /// Whether it still stands at a time.
    #[inline]
    pub fn stands(&self, time_ms: i64) -> bool {
        let age_ms = time_ms.saturating_sub(self.heard_ms).max(0);
        self.heard_ms != i64::MIN && age_ms.cast_unsigned() <= self.rhythm.down_after_ms()
    }
}

/// A series' own last value in each step of a minute, with its time.
#[derive(Clone, Copy, Debug)]
pub struct Lasts([(i64, f64); STEPS]);

impl Lasts {
    pub const NONE: Lasts = Lasts([(i64::MIN, f64::NAN); STEPS]);

    /// A point of the minute that begins then; of equal times the later one counts.
    #[inline]
    pub fn put(&mut self, begin_ms: i64, time_ms: i64, value: f64) {
        let step = (time_ms - begin_ms).div_euclid(FLEET_STEP_MS);
        let last = usize::try_from(step).ok();
        if let Some(last) = last.and_then(|step| self.0.get_mut(step))
            && last.0 <= time_ms
        {
            *last = (time_ms, value);
        }
    }

    /// The steps that have a point, with the last one's time and value.
    pub fn own(&self) -> impl Iterator<Item = (usize, i64, f64)> {
        let steps = self.0.iter().enumerate();
        let own = steps.filter(|(_, (time_ms, _))| *time_ms != i64::MIN);
        own.map(|(step, &(time_ms, value))| (step, time_ms, value))
    }

    /// With what stood before the minute and the rhythm known by its end: each step's own value,
    /// else the one before as long as that stands at the step's end and the node was there.
    /// NaN: nothing stands.
    pub fn fill(
        &self,
        before: Held,
        rhythm: Rhythm,
        begin_ms: i64,
        here: [bool; STEPS],
    ) -> [f64; STEPS] {
        let mut held = Held { rhythm, ..before };
        let mut end_ms = begin_ms;
        let mut values = [f64::NAN; STEPS];
        for (step, &(time_ms, value)) in self.0.iter().enumerate() {
            end_ms += FLEET_STEP_MS;
            let is_own = time_ms != i64::MIN;
            if is_own {
                (held.heard_ms, held.value) = (time_ms, value);
            }
            if is_own || here[step] && held.stands(end_ms) {
                values[step] = held.value;
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [bool; STEPS] = [true; STEPS];

    /// Points after the begin of a first minute, in seconds; what the next minutes show, NaN as -1.
    fn shown(points_s: &[i64], minutes: i64, here: [bool; STEPS]) -> Vec<f64> {
        let (mut held, mut shown) = (Held::NONE, Vec::new());
        for begin_ms in (0..minutes).map(|minute| minute * MINUTE_MS) {
            let (before, mut lasts) = (held, Lasts::NONE);
            for time_ms in points_s.iter().map(|at_s| at_s * 1_000) {
                if (begin_ms..begin_ms + MINUTE_MS).contains(&time_ms) {
                    lasts.put(begin_ms, time_ms, time_ms as f64);
                    held.hear(time_ms, time_ms as f64);
                }
            }
            let filled = lasts.fill(before, held.rhythm, begin_ms, here);
            shown.extend(filled);
        }
        let shown = shown.into_iter();
        shown
            .map(|v| if v.is_nan() { -1.0 } else { v / 1_000.0 })
            .collect()
    }

    #[test]
    fn a_value_stands_for_ten_intervals() {
        let every_second: Vec<i64> = (0..25).collect();
        assert_eq!(
            shown(&every_second, 1, HERE),
            [9.0, 19.0, 24.0, -1.0, -1.0, -1.0]
        );
        // One point alone has the rhythm of who is not known: ten times ten seconds.
        let once = shown(&[5], 2, HERE);
        assert!(once[..10].iter().all(|&value| value == 5.0), "{once:?}");
        assert_eq!(once[10..], [-1.0, -1.0]);
        let slow = shown(&[5, 35, 65], 8, HERE);
        let last = slow.iter().rposition(|&value| value == 65.0);
        assert_eq!((last, slow.contains(&-1.0)), (Some(35), true));
        assert!(!slow[..36].contains(&-1.0), "no gap before: {slow:?}");
    }

    #[test]
    fn nothing_stands_while_the_node_is_away_but_what_has_a_point() {
        let here = [true, false, false, true, false, true];
        assert_eq!(shown(&[1, 41], 1, here), [1.0, -1.0, -1.0, 1.0, 41.0, 41.0]);
    }

    #[test]
    fn what_is_earlier_changes_nothing_and_bursts_are_one_point() {
        let mut held = Held::NONE;
        assert!(!held.stands(0));
        for (time_ms, value) in [(1_000, 1.0), (500, 9.0), (1_010, 2.0), (31_000, 3.0)] {
            held.hear(time_ms, value);
        }
        assert_eq!((held.heard_ms, held.value), (31_000, 3.0));
        assert_eq!(held.rhythm.interval_ms(), 30_000);
        assert!(held.stands(331_000) && !held.stands(331_001));
        let mut second = Rhythm::UNKNOWN;
        second.learn(1_000);
        held.hear_last(40_000, 4.0, second);
        held.hear_last(39_000, 5.0, Rhythm::UNKNOWN);
        assert_eq!((held.value, held.rhythm.interval_ms()), (4.0, 1_000));
    }
}
