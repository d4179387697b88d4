//! The live wall of a server fleet.

pub mod clock;
pub mod limits;

pub mod decode;

pub mod sample;

pub mod frame;
