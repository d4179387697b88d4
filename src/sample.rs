//! The one record that crosses threads.

/// A host's place in the fleet matrix: its row. Given out by [`crate::catalog`].
pub type Slot = u32;

/// A series' place on a host: the matrix column, a metric name with its non-host labels.
pub type Column = u16;

/// One measured value on its way from a core to the aggregator.
///
/// Plain data without a destructor, so that a ring may copy and forget it. Names stay behind in the
/// catalog: the aggregator never frees what a core allocated.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Sample {
    pub value: f64,
    /// The sender's own time, milliseconds since the epoch; [`Sample::NO_TIME`] when it gave none.
    /// The live wall goes by arrival; only history reads this.
    pub time_ms: i64,
    pub slot: Slot,
    pub column: Column,
    pub flags: u16,
}

impl Sample {
    pub const NO_TIME: i64 = i64::MIN;
}

const _: () = assert!(size_of::<Sample>() == 24);
