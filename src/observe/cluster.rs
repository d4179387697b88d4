//! What the cluster counts.

use super::{Counter, Text};

/// Why a message of another node changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refused {
    /// Not sealed by this cluster's key, or changed on the way.
    Forged,
    Malformed,
    Oversized,
    /// Of another version of the protocol.
    Version,
    /// It was here before: doubled, overtaken, or played again.
    Old,
    /// Of a wall clock that is too far from ours: a recording, or a node without the time.
    Skew,
    /// It names hosts or columns that its node never told of.
    Unknown,
    /// Another node has this node's name.
    Name,
    /// Too many peers already.
    Crowd,
}

impl Refused {
    pub const ALL: [Refused; 9] = [
        Refused::Forged,
        Refused::Malformed,
        Refused::Oversized,
        Refused::Version,
        Refused::Old,
        Refused::Skew,
        Refused::Unknown,
        Refused::Name,
        Refused::Crowd,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Refused::Forged => "forged",
            Refused::Malformed => "malformed",
            Refused::Oversized => "oversized",
            Refused::Version => "version",
            Refused::Old => "old",
            Refused::Skew => "skew",
            Refused::Unknown => "unknown",
            Refused::Name => "name",
            Refused::Crowd => "crowd",
        }
    }
}

/// The cluster thread is their one writer, but of `samples_lost`, which is the aggregator's.
#[derive(Debug, Default)]
pub struct Cluster {
    pub link_up: Counter,
    pub links: Counter,
    pub link_errors: Counter,
    pub messages_sent: Counter,
    pub bytes_sent: Counter,
    pub cells_sent: Counter,
    pub messages_received: Counter,
    pub bytes_received: Counter,
    pub cells_received: Counter,
    pub refused: [Counter; Refused::ALL.len()],
    pub keyframes_stored: Counter,
    pub keyframe_bytes: Counter,
    pub keyframes_loaded: Counter,
    /// Messages that found no room on their way in.
    pub inbox_dropped: Counter,
    /// Samples that found no room on their way out; a keyframe makes up for them.
    pub samples_lost: Counter,
    pub cpu_us: Counter,
    pub peers_reachable: Counter,
    pub peers_joining: Counter,
    pub peers_unreachable: Counter,
}

impl Cluster {
    pub fn received(&self, bytes: usize) {
        self.messages_received.add(1);
        self.bytes_received.add(bytes as u64);
    }

    pub fn refuse(&self, refused: Refused) {
        self.refused[refused as usize].add(1);
    }
}

type Pick = fn(&Cluster) -> &Counter;

const COUNTERS: [(&str, &str, Pick); 14] = [
    ("links", "Connections to Redis that were made.", |c| {
        &c.links
    }),
    ("link_errors", "Connections that failed or broke.", |c| {
        &c.link_errors
    }),
    ("messages_sent", "Messages published.", |c| &c.messages_sent),
    ("sent_bytes", "Bytes published, keyframes apart.", |c| {
        &c.bytes_sent
    }),
    ("cells_sent", "Values published.", |c| &c.cells_sent),
    (
        "messages_received",
        "Messages and keyframes taken in, refused ones too.",
        |c| &c.messages_received,
    ),
    ("received_bytes", "Bytes of them.", |c| &c.bytes_received),
    ("cells_received", "Values of peers that were taken.", |c| {
        &c.cells_received
    }),
    (
        "keyframes_stored",
        "Keyframes of this node left in Redis.",
        |c| &c.keyframes_stored,
    ),
    ("keyframe_bytes", "Bytes of them.", |c| &c.keyframe_bytes),
    (
        "keyframes_loaded",
        "Keyframes of peers that were taken.",
        |c| &c.keyframes_loaded,
    ),
    ("inbox_dropped", "Messages that found no room.", |c| {
        &c.inbox_dropped
    }),
    (
        "samples_lost",
        "Samples that went by keyframe for want of room.",
        |c| &c.samples_lost,
    ),
    (
        "cpu_microseconds",
        "CPU time of the cluster's thread.",
        |c| &c.cpu_us,
    ),
];

const GAUGES: [(&str, &str, Pick); 4] = [
    ("link_up", "Whether Redis can be reached: 1 or 0.", |c| {
        &c.link_up
    }),
    ("peers_reachable", "Peers that are heard.", |c| {
        &c.peers_reachable
    }),
    (
        "peers_joining",
        "Peers that are heard, and whose picture is not whole.",
        |c| &c.peers_joining,
    ),
    (
        "peers_unreachable",
        "Peers that fell silent within the hour.",
        |c| &c.peers_unreachable,
    ),
];

/// Nothing for a node that is alone.
pub(super) fn write(text: &mut Text, cluster: Option<&Cluster>) {
    let Some(cluster) = cluster else {
        return;
    };
    for (name, help, pick) in COUNTERS {
        let name = format!("tidewall_cluster_{name}");
        text.family(&name, "counter", help);
        text.total(&name, "", pick(cluster).get());
    }
    let name = "tidewall_cluster_refused";
    text.family(name, "counter", "Messages that changed nothing, by reason.");
    for refused in Refused::ALL {
        let label = format!("reason=\"{}\"", refused.label());
        text.total(name, &label, cluster.refused[refused as usize].get());
    }
    for (name, help, pick) in GAUGES {
        let name = format!("tidewall_cluster_{name}");
        text.family(&name, "gauge", help);
        text.line(&name, "", pick(cluster).get());
    }
}
