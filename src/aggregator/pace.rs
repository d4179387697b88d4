//! Absolute deadlines: late work does not push the next one, missed ones are skipped.

/// A deadline that comes again and again, in monotonic milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    due_ms: u64,
    every_ms: u64,
}

impl Pace {
    pub fn new(first_ms: u64, every_ms: u64) -> Self {
        Self {
            due_ms: first_ms,
            every_ms: every_ms.max(1),
        }
    }

    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Whether the deadline has come; then how late, and the next one is ahead again, on the same
    /// grid. `early_ms` takes a deadline that is as near as this for come: a view's deadlines fall
    /// on ticks, and a tick that is a bit early must not cost the view its frame.
    pub fn take(&mut self, now_ms: u64, early_ms: u64) -> Option<u64> {
        let reach_ms = now_ms + early_ms;
        if reach_ms < self.due_ms {
            return None;
        }
        let late_ms = now_ms.saturating_sub(self.due_ms);
        let steps = (reach_ms - self.due_ms) / self.every_ms + 1;
        self.due_ms += steps * self.every_ms;
        Some(late_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift_and_missed_ones_are_skipped() {
        let mut pace = Pace::new(100, 100);
        let mut check = |now_ms: u64, late: Option<u64>, due_ms: u64| {
            assert_eq!(
                (pace.take(now_ms, 0), pace.due_ms()),
                (late, due_ms),
                "{now_ms}"
            );
        };
        check(99, None, 100);
        check(100, Some(0), 200);
        check(100, None, 200);
        check(215, Some(15), 300);
        check(555, Some(255), 600);
        check(600, Some(0), 700);
    }

    #[test]
    fn views_come_due_on_trembling_ticks() {
        let check = |every_ms: u64, ticks: &[u64], expected: &[u64]| {
            let mut pace = Pace::new(ticks[0], every_ms);
            let due = ticks
                .iter()
                .copied()
                .filter(|&t| pace.take(t, 50).is_some());
            assert_eq!(due.collect::<Vec<_>>(), expected, "{every_ms}");
        };
        let ticks = [3, 101, 199, 304, 400, 499, 601, 700, 798, 905, 1_003];
        check(100, &ticks, &ticks);
        check(200, &ticks, &[3, 199, 400, 601, 798, 1_003]);
        check(500, &ticks, &[3, 499, 1_003]);
        check(
            500,
            &[0, 100, 1_730, 1_830, 1_930, 2_030],
            &[0, 1_730, 2_030],
        );
    }
}
