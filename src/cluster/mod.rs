//! Several nodes that show one wall: what each hears goes to all through Redis.

pub mod member;
mod peer;
pub mod peers;
pub mod publisher;
pub mod record;
pub mod roster;
pub mod wire;

#[cfg(test)]
mod simulation;
