//! The live wall of a server fleet.

pub mod clock;
pub mod limits;

pub mod connection;

pub mod reject;

pub mod sample;

pub mod frame;

pub mod observe;
