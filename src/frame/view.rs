//! Stub until part FRAME is merged: what a viewer asked to see.

use std::fmt;

use super::filter::Filter;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct View {
    pub kind: Kind,
    pub filter: Option<Filter>,
    pub hz: Hz,
    pub format: Format,
    pub lowered: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    Map {
        metric: String,
    },
    Lines {
        exprs: Vec<Expr>,
        by: Option<String>,
    },
    Top {
        metric: String,
        n: usize,
    },
    Host {
        host: String,
    },
    Stats,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    Binary,
    Json,
    Default,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Expr {
    pub func: Func,
    pub metric: String,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Func {
    Min,
    Avg,
    Max,
    Sum,
    Count,
    P50,
    P90,
    P95,
    P99,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Hz {
    interval_ms: u32,
}

impl View {
    pub fn default_view() -> View {
        View {
            kind: Kind::Stats,
            filter: None,
            hz: Hz::TEN,
            format: Format::Default,
            lowered: false,
        }
    }
}

impl Hz {
    pub const TEN: Hz = Hz { interval_ms: 100 };
    pub const FIVE: Hz = Hz { interval_ms: 200 };
    pub const TWO: Hz = Hz { interval_ms: 500 };
    pub const ONE: Hz = Hz { interval_ms: 1_000 };
    pub const FIFTH: Hz = Hz { interval_ms: 5_000 };

    pub fn interval_ms(self) -> u32 {
        self.interval_ms
    }
}

impl Func {
    pub fn name(self) -> &'static str {
        match self {
            Func::Min => "min",
            Func::Avg => "avg",
            Func::Max => "max",
            Func::Sum => "sum",
            Func::Count => "count",
            Func::P50 => "p50",
            Func::P90 => "p90",
            Func::P95 => "p95",
            Func::P99 => "p99",
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.func.name(), self.metric)
    }
}
