//! The live wall of a server fleet.

pub mod clock;
pub mod duration;
pub mod limits;

pub mod sample;

pub mod frame;

pub mod agent;
