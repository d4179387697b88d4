//! The live wall of a server fleet.

pub mod clock;
pub mod limits;
pub mod reject;
pub mod connection;
pub mod observe;

pub mod catalog;
pub mod sample;

pub mod ring;

pub mod frame;
