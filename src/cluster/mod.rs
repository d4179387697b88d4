//! Several nodes that show one wall: what each hears goes to all through Redis.
//!
//! Absolute values in a sequence of messages, a keyframe for whoever has a gap, and nothing waits:
//! Redis may be away, and what was missed is fetched when it is back. The protocol ([`member`]) is
//! pure; [`service`] is the thread around it, [`redis`] its connection.

pub mod key;
pub mod member;
mod peer;
pub mod peers;
pub mod publisher;
pub mod record;
pub mod redis;
pub mod roster;
pub mod service;
pub mod wire;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use self::key::Key;
use self::redis::target::Target;

/// What a node joins others with.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    /// The node's name; none: its host's name and the port it listens on.
    pub node: Option<String>,
    pub key: Key,
}
