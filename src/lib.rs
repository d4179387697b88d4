//! The live wall of a server fleet.

pub mod clock;
pub mod limits;

pub mod catalog;

pub mod sample;

pub mod ring;

pub mod aggregator;

pub mod frame;

pub mod broadcast;

pub mod observe;
