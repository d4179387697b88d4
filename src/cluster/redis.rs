//! Redis as the place where nodes meet: channels that all hear, and keys for who comes later.
//!
//! Of the redis crate only the codec and the multiplexed connection are used. Its clients for
//! clusters and sentinels connect anew by themselves, queue what comes without a bound, and do not
//! say when a subscription was lost; a [`Link`] is the contrary: whatever goes wrong ends it, and
//! whoever holds it makes another.

pub mod error;
mod find;
mod socket;
pub mod target;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline, cmd};
use tokio::sync::mpsc::Sender;

use self::error::LinkError;
pub use self::socket::Arrived;
use self::socket::{Pulse, Socket};
use self::target::{Host, Kind, Target, is_name};
use crate::limits::{
    CLUSTER_CHANNELS, CLUSTER_COMMAND_TIMEOUT, CLUSTER_KEYFRAME_BYTES_MAX,
    CLUSTER_KEYFRAME_TIMEOUT, CLUSTER_MESSAGE_BYTES_MAX, CLUSTER_NODE_BYTES_MAX, CLUSTER_NODES_MAX,
    CLUSTER_NODES_TTL,
};

/// One life of the connection: it never connects anew. Its tasks and sockets end when it is
/// dropped. A question that is dropped halfway is still answered: what comes of it is thrown away,
/// but counts as unparsed until the next answer or message.
///
/// Invariant: each of the channels has one socket, on which it is subscribed and published.
pub struct Link {
    sockets: Vec<Socket>,
    /// The index of each channel's socket.
    serving: [usize; CLUSTER_CHANNELS],
    is_sharded: bool,
    prefix: String,
    pulse: Arc<Pulse>,
}

impl Link {
    /// Connects to whoever takes writes, and subscribes to all channels. A message that finds no
    /// room in `inbox` is dropped and counted.
    pub async fn connect(target: &Target, inbox: Sender<Arrived>) -> Result<Link, LinkError> {
        match &target.kind {
            Kind::Plain => Link::to_first(target, &inbox).await,
            Kind::Sentinel(name) => {
                let host = find::by_sentinel(target, name).await?;
                Link::to_one(target, &host, &inbox).await
            }
            Kind::Cluster => Link::to_shards(target, inbox).await,
        }
    }

    async fn to_first(target: &Target, inbox: &Sender<Arrived>) -> Result<Link, LinkError> {
        let mut errors = Vec::new();
        for host in &target.hosts {
            match Link::to_one(target, host, inbox).await {
                Ok(link) => return Ok(link),
                Err(error) => errors.push(error),
            }
        }
        Err(LinkError::of_all(errors))
    }

    async fn to_one(
        target: &Target,
        host: &Host,
        inbox: &Sender<Arrived>,
    ) -> Result<Link, LinkError> {
        let pulse = Pulse::new(inbox.clone());
        let sockets = vec![find::primary(target, host, &pulse).await?];
        let serving = [0; CLUSTER_CHANNELS];
        Link::begin(target, sockets, serving, pulse).await
    }

    /// A socket to each shard that serves one of the channels; other shards are nothing to us.
    async fn to_shards(target: &Target, inbox: Sender<Arrived>) -> Result<Link, LinkError> {
        let pulse = Pulse::new(inbox);
        let mut sockets = Vec::new();
        let mut serving = [0; CLUSTER_CHANNELS];
        for (host, channels) in find::shards(target).await? {
            for channel in channels {
                serving[channel] = sockets.len();
            }
            sockets.push(find::primary(target, &host, &pulse).await?);
        }
        Link::begin(target, sockets, serving, pulse).await
    }

    async fn begin(
        target: &Target,
        sockets: Vec<Socket>,
        serving: [usize; CLUSTER_CHANNELS],
        pulse: Arc<Pulse>,
    ) -> Result<Link, LinkError> {
        let mut link = Link {
            sockets,
            serving,
            is_sharded: target.kind == Kind::Cluster,
            prefix: target.prefix.clone(),
            pulse,
        };
        link.probe().await?;
        link.subscribe().await?;
        Ok(link)
    }

    /// A write to each server, now and from now on. A primary that became a replica keeps its
    /// subscribers and takes messages, which nobody else hears; and a node that publishes to one
    /// shard would not notice that another is gone.
    async fn probe(&mut self) -> Result<(), LinkError> {
        for socket in 0..self.sockets.len() {
            let Some(channel) = self.channels_of(socket).next() else {
                continue;
            };
            let mut command = cmd("SET");
            command.arg(format!("{}:probe", self.tag(channel))).arg(1);
            command.arg("PX").arg(1_000);
            let limit = CLUSTER_COMMAND_TIMEOUT;
            let socket = &mut self.sockets[socket];
            let _: () = socket.ask("a write", limit, &command).await?;
            socket.watch("a write", command);
        }
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<(), LinkError> {
        let word = if self.is_sharded {
            "SSUBSCRIBE"
        } else {
            "SUBSCRIBE"
        };
        for socket in 0..self.sockets.len() {
            // Each by itself: the crate expects one answer a command, Redis gives one a channel.
            let mut commands = Pipeline::new();
            for channel in self.channels_of(socket) {
                commands.cmd(word).arg(self.channel(channel));
            }
            let socket = &mut self.sockets[socket];
            socket.ask_all(word, &commands).await?;
        }
        Ok(())
    }

    /// To all nodes, this one too. On a cluster the shard tells only its own subscribers, so that
    /// load spreads as channels do; `PUBLISH` would tell every server of the cluster.
    pub async fn publish(&mut self, channel: usize, message: &[u8]) -> Result<(), LinkError> {
        bounded("a message", message, CLUSTER_MESSAGE_BYTES_MAX)?;
        let word = if self.is_sharded {
            "SPUBLISH"
        } else {
            "PUBLISH"
        };
        let mut command = cmd(word);
        command.arg(self.channel(channel)).arg(message);
        let limit = CLUSTER_COMMAND_TIMEOUT;
        self.at(channel).ask(word, limit, &command).await
    }

    /// Keeps the node's keyframe for `ttl`, and its name among the nodes.
    pub async fn store_keyframe(
        &mut self,
        node: &str,
        channel: usize,
        bytes: &[u8],
        ttl: Duration,
    ) -> Result<(), LinkError> {
        bounded("a keyframe", bytes, CLUSTER_KEYFRAME_BYTES_MAX)?;
        let mut command = cmd("SET");
        command.arg(self.keyframe(node, channel)).arg(bytes);
        command.arg("PX").arg(ttl.as_millis() as u64);
        let limit = CLUSTER_KEYFRAME_TIMEOUT;
        let _: () = self.at(channel).ask("SET", limit, &command).await?;
        let now = self.time().await?;
        let nodes = self.nodes_key();
        let mut command = cmd("ZADD");
        command.arg(&nodes).arg(now).arg(node);
        let _: usize = self.ask_nodes("ZADD", &command).await?;
        let mut command = cmd("PEXPIRE");
        command
            .arg(&nodes)
            .arg(CLUSTER_NODES_TTL.as_millis() as u64);
        self.ask_nodes("PEXPIRE", &command).await
    }

    /// None if there is none. One that is too long is not ours, and not read to its end: it counts
    /// as dropped.
    pub async fn load_keyframe(
        &mut self,
        node: &str,
        channel: usize,
    ) -> Result<Option<Vec<u8>>, LinkError> {
        // In one question, since it may be replaced between two: one byte past the bound shows.
        let mut command = cmd("GETRANGE");
        command.arg(self.keyframe(node, channel)).arg(0);
        command.arg(CLUSTER_KEYFRAME_BYTES_MAX);
        let limit = CLUSTER_KEYFRAME_TIMEOUT;
        let bytes: Vec<u8> = self.at(channel).ask("GETRANGE", limit, &command).await?;
        if CLUSTER_KEYFRAME_BYTES_MAX < bytes.len() {
            self.pulse.drop_one();
            return Ok(None);
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// The nodes that stored a keyframe in the last [`CLUSTER_NODES_TTL`], by the clock of Redis,
    /// which is the same for all; of too many the newest.
    pub async fn nodes(&mut self) -> Result<Vec<String>, LinkError> {
        let past = self.time().await? - CLUSTER_NODES_TTL.as_millis() as i64;
        let key = self.nodes_key();
        let mut command = cmd("ZREMRANGEBYSCORE");
        command.arg(&key).arg("-inf").arg(past);
        let _: usize = self.ask_nodes("ZREMRANGEBYSCORE", &command).await?;
        let mut command = cmd("ZREMRANGEBYRANK");
        command.arg(&key).arg(0).arg(-1 - CLUSTER_NODES_MAX as i64);
        let _: usize = self.ask_nodes("ZREMRANGEBYRANK", &command).await?;
        let mut command = cmd("ZRANGE");
        command.arg(&key).arg(0).arg(CLUSTER_NODES_MAX - 1);
        let found: Vec<Vec<u8>> = self.ask_nodes("ZRANGE", &command).await?;
        let names = found.into_iter().filter_map(|name| {
            let name = String::from_utf8(name).ok()?;
            is_name(&name, CLUSTER_NODE_BYTES_MAX).then_some(name)
        });
        Ok(names.collect())
    }

    /// Takes the node's name from the nodes; its keyframe stays, for its own return.
    pub async fn leave(&mut self, node: &str) -> Result<(), LinkError> {
        let mut command = cmd("ZREM");
        command.arg(self.nodes_key()).arg(node);
        let _: usize = self.ask_nodes("ZREM", &command).await?;
        Ok(())
    }

    /// Resolves once the link is of no use any more; may be dropped and asked again.
    pub async fn broken(&mut self) -> LinkError {
        self.pulse.broken().await
    }

    /// Messages and keyframes that were not taken: no room in the inbox, or too long.
    pub fn dropped(&self) -> u64 {
        self.pulse.dropped()
    }

    async fn time(&mut self) -> Result<i64, LinkError> {
        let (seconds, micros): (i64, i64) = self.ask_nodes("TIME", &cmd("TIME")).await?;
        Ok(seconds.saturating_mul(1_000).saturating_add(micros / 1_000))
    }

    /// The list of nodes is where the first channel is.
    async fn ask_nodes<T: redis::FromRedisValue>(
        &mut self,
        what: &'static str,
        command: &Cmd,
    ) -> Result<T, LinkError> {
        self.at(0).ask(what, CLUSTER_COMMAND_TIMEOUT, command).await
    }

    fn at(&mut self, channel: usize) -> &mut Socket {
        &mut self.sockets[self.serving[channel]]
    }

    fn channels_of(&self, socket: usize) -> impl Iterator<Item = usize> + use<> {
        let serving = self.serving;
        (0..CLUSTER_CHANNELS).filter(move |&channel| serving[channel] == socket)
    }

    /// What stands in braces decides the slot, so a channel's keys are where the channel is.
    fn tag(&self, channel: usize) -> String {
        format!("{{{}:{channel}}}", self.prefix)
    }

    fn channel(&self, channel: usize) -> String {
        format!("{}:frames", self.tag(channel))
    }

    fn keyframe(&self, node: &str, channel: usize) -> String {
        format!("{}:key:{node}", self.tag(channel))
    }

    fn nodes_key(&self) -> String {
        format!("{}:nodes", self.tag(0))
    }
}

fn bounded(what: &'static str, bytes: &[u8], most: usize) -> Result<(), LinkError> {
    if most < bytes.len() {
        let bytes = bytes.len();
        return Err(LinkError::Oversize { what, bytes, most });
    }
    Ok(())
}
