//! What a `lines` view showed: the question and its answer.

use tokio::sync::oneshot;

use crate::frame::filter::Filter;
use crate::frame::view::Expr;

/// The lines of a view over whole steps. Times are multiples of `step_ms`, which is one of
/// [`FLEET_STEP_MS`](super::FLEET_STEP_MS).
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    pub exprs: Vec<Expr>,
    pub by: Option<String>,
    pub filter: Option<Filter>,
    pub from_ms: i64,
    pub to_ms: i64,
    pub step_ms: i64,
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
        (span / self.step_ms.max(1)) as usize
    }
}
