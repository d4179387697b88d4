//! The live wall of a server fleet.

pub mod clock;
pub mod limits;

pub mod sample;

pub mod ring;

pub mod frame;
