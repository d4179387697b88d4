//! The bounds of several nodes that show one wall.

use std::time::Duration;

use super::{KIB, MIB, SERIES_MAX};

// ---- Redis ----------------------------------------------------------------------------------

/// Channels that nodes publish on, each by its own name: a power of two, so that a cluster of Redis
/// spreads them over its shards; three get 5 or 6 each. A node hears all.
pub const CLUSTER_CHANNELS: usize = 16;
/// Hosts of a URL: each may take its time to fail before the next is tried.
pub const CLUSTER_HOSTS_MAX: usize = 16;
/// From the first packet to a session; and from a command to its answer. In one network it is a
/// millisecond: a second is a server that is stopped, or gone.
pub const CLUSTER_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
pub const CLUSTER_COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a keyframe: [`CLUSTER_KEYFRAME_BYTES_MAX`] in this time is 101 Mbit a second.
pub const CLUSTER_KEYFRAME_TIMEOUT: Duration = Duration::from_secs(2);
/// How often each server is asked whether it is there and takes writes. With the time its answer
/// has, one that is gone without a word is known after 3 s, by the next message after 1.
pub const CLUSTER_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// One message; past it it is not sent, and not taken.
pub const CLUSTER_MESSAGE_BYTES_MAX: usize = MIB;
/// One keyframe: [`SERIES_MAX`] x 12 B with all their digits, and 65,536 hosts with 150 B of name
/// and tags. Nobody learns of a node whose keyframe is longer.
pub const CLUSTER_KEYFRAME_BYTES_MAX: usize = 24 * MIB;
/// What Redis lets wait for a subscriber by default (`client-output-buffer-limit pubsub 32mb 8mb
/// 60`): past the first at once, past the second for a minute, the connection is cut. 16 nodes that
/// send 60 KB ten times a second are 9.6 MB a second: a node may take nothing for 3.3 s. A keyframe
/// that is read waits there too, since it comes by the same connection.
pub const REDIS_PUBSUB_HARD_BYTES: usize = 32 * MIB;
pub const REDIS_PUBSUB_SOFT_BYTES: usize = 8 * MIB;
/// Bytes that came without making one whole message or answer; past it the link ends. Redis lets
/// anybody publish 512 MB, and its client would read them all.
pub const CLUSTER_UNPARSED_BYTES_MAX: usize =
    CLUSTER_KEYFRAME_BYTES_MAX + CLUSTER_MESSAGE_BYTES_MAX;
/// Nodes in the list of those seen; of more the newest. Far past what one Redis can carry.
pub const CLUSTER_NODES_MAX: usize = 256;
/// A node that stored no keyframe for so long is not looked for.
pub const CLUSTER_NODES_TTL: Duration = Duration::from_secs(60);
/// What all channels and keys of one wall begin with, and a node's name.
pub const CLUSTER_PREFIX_BYTES_MAX: usize = 64;
pub const CLUSTER_NODE_BYTES_MAX: usize = 64;
/// The secret that messages are authenticated with: no less than the 256 bits of its hash.
pub const CLUSTER_KEY_BYTES_MIN: usize = 32;
pub const CLUSTER_KEY_BYTES_MAX: usize = 4 * KIB;

// ---- peers ----------------------------------------------------------------------------------

/// Nodes that one node follows besides itself; of one more nothing is taken.
pub const PEERS_MAX: usize = 64;
/// A peer that said nothing for so long cannot be heard. It says something each
/// [`CLUSTER_HEARTBEAT`]: eight of them must be lost, or late.
pub const PEER_SILENT_AFTER: Duration = Duration::from_secs(2);
pub const CLUSTER_HEARTBEAT: Duration = Duration::from_millis(250);
/// The longest time between two messages that have something to say; half a tick where that is
/// less, so that a sample waits for its turn half as long as for a frame.
pub const CLUSTER_TURN_MAX: Duration = Duration::from_millis(250);
/// Cells of one message: 32,768 x 11 B of raw values and far slots are 360 KB. More go with the
/// next one.
pub const CLUSTER_CELLS_MAX: usize = 32_768;
/// Names of new hosts in one message, but for the last: about 6,000 of them.
pub const CLUSTER_NAMES_BYTES_MAX: usize = 256 * KIB;
/// Records on their way to the aggregator, and samples on their way from it: 131,072 x 24 B = 3
/// MiB each, a second of a fleet's 100,000.
pub const CLUSTER_RING_CAPACITY: usize = 1 << 17;
/// Records that wait for room in the ring before messages wait: the largest keyframe, 24 MB.
pub const CLUSTER_RECORDS_MAX: usize = SERIES_MAX;
/// Messages that came and wait to be read; more are dropped, which makes gaps. 64 peers send 1,280
/// a second with the usual tick; at 60 KB each these are 15 MB, and 256 MiB of the longest, which
/// whoever reaches Redis may publish.
pub const CLUSTER_INBOX_MAX: usize = 256;
/// Deltas of one peer that wait for its keyframe, 10 s of them with the usual tick; past either
/// bound a newer keyframe is needed.
pub const PEER_HELD_MESSAGES_MAX: usize = 256;
pub const PEER_HELD_BYTES_MAX: usize = 8 * MIB;
/// How often a keyframe is asked for until it comes, and how often one is made at most.
pub const WANT_INTERVAL: Duration = Duration::from_millis(250);
pub const CLUSTER_STORE_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// How often one is made unasked: what a node that died leaves behind is no older.
pub const CLUSTER_KEYFRAME_INTERVAL: Duration = Duration::from_secs(5);
/// Cells the aggregator writes down for it between two drains: 32,768 x 20 ns = 0.7 ms, or one
/// column of 65,536.
pub const EXPORT_CELLS_PER_STEP: usize = 32_768;
/// How far a peer's wall clock may be off: a message from before is a recording.
pub const CLUSTER_SKEW_MAX: Duration = Duration::from_secs(60);
/// A peer's monotonic clock is compared over one to two of these: one that stood still, as in a
/// machine that was suspended, is right again after as long.
pub const CLUSTER_OFFSET_WINDOW: Duration = Duration::from_secs(5);
/// After a connection: whoever was not heard by then, four heartbeats, is not there, and what it
/// left is looked at.
pub const NODES_WAIT: Duration = Duration::from_secs(1);
/// Before so many messages of a peer nothing of it is shown: were they all late, its samples would
/// pass for newer than they are, and win over those of other nodes.
pub const CLUSTER_OFFSET_MESSAGES_MIN: u32 = 4;
/// For so long after a peer came or missed something, a node says something each turn.
pub const CLUSTER_EAGER: Duration = Duration::from_secs(1);
/// A node comes back to Redis after a random time up to this, the first time at once.
pub const CLUSTER_RETRY_MAX: Duration = Duration::from_millis(250);
/// A node that does not hear its own messages for so long is not subscribed any more.
pub const CLUSTER_ECHO_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(CLUSTER_CHANNELS.is_power_of_two());
const _: () = assert!(
    CLUSTER_KEYFRAME_BYTES_MAX + 8 * CLUSTER_MESSAGE_BYTES_MAX <= REDIS_PUBSUB_HARD_BYTES,
    "a keyframe on its way leaves room for messages"
);
const _: () = assert!(CLUSTER_MESSAGE_BYTES_MAX < REDIS_PUBSUB_SOFT_BYTES);
const _: () = assert!(CLUSTER_RING_CAPACITY.is_power_of_two() && PEERS_MAX < u8::MAX as usize);
const _: () = assert!(
    CLUSTER_CELLS_MAX * 14 + CLUSTER_NAMES_BYTES_MAX + 4 * KIB < CLUSTER_MESSAGE_BYTES_MAX,
    "a full message may be sent"
);
