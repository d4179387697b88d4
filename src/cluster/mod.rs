//! Several nodes that show one wall: what each has goes to all through Redis.

pub mod key;
pub mod redis;

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
