//! Who takes writes: a primary of a list, the one that sentinels know, or a cluster's shards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use redis::{RedisConnectionInfo, Value, cmd};

use super::error::LinkError;
use super::socket::{Pulse, Socket};
use super::target::{Host, Kind, Target};
use crate::limits::{CLUSTER_CHANNELS, CLUSTER_COMMAND_TIMEOUT};
use crate::rng::Rng;

const SLOTS: u16 = 16_384;

/// Opens the host if it is a primary of the right kind.
pub(super) async fn primary(
    target: &Target,
    host: &Host,
    pulse: &Arc<Pulse>,
) -> Result<Socket, LinkError> {
    let mut socket = Socket::open(target, host, login(target), pulse).await?;
    let is = hello(&mut socket).await?;
    let shown = || host.to_string();
    let kind = |is, scheme| {
        let host = shown();
        Err(LinkError::Kind { host, is, scheme })
    };
    match (is.mode.as_str(), target.kind == Kind::Cluster) {
        ("sentinel", _) => return kind("sentinel", "redis+sentinel"),
        ("cluster", false) => return kind("shard of a cluster", "redis+cluster"),
        ("standalone", true) => return kind("Redis of its own", "redis"),
        _ => {}
    }
    if !is.takes_writes {
        return Err(LinkError::Replica(shown()));
    }
    Ok(socket)
}

/// The primary that a sentinel names; the sentinels are asked one after the other, from anywhere in
/// the list: one that was cut off names what is no more, and must not be believed each time.
pub(super) async fn by_sentinel(target: &Target, name: &str) -> Result<Host, LinkError> {
    let mut reasons = Vec::new();
    for sentinel in from_anywhere(&target.hosts) {
        match ask_sentinel(target, sentinel, name).await {
            Ok(Some(host)) => return Ok(host),
            Ok(None) => reasons.push(format!("{sentinel} does not know it")),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(LinkError::UnknownName {
        name: name.to_owned(),
        why: reasons.join("; "),
    })
}

async fn ask_sentinel(
    target: &Target,
    sentinel: &Host,
    name: &str,
) -> Result<Option<Host>, LinkError> {
    let mut socket = match open_alone(target, sentinel, login(target)).await {
        // Many protect the servers and leave the sentinels open, where no user is known.
        Err(LinkError::Password { .. }) => {
            open_alone(target, sentinel, RedisConnectionInfo::default()).await?
        }
        opened => opened?,
    };
    let mut command = cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let what = "SENTINEL GET-MASTER-ADDR-BY-NAME";
    let limit = CLUSTER_COMMAND_TIMEOUT;
    let answer: Option<(String, u16)> = socket.ask(what, limit, &command).await?;
    Ok(answer.map(|(host, port)| Host::Tcp(host, port)))
}

/// Who serves which channels, by the first host that answers, from anywhere in the list too. At
/// most as many as channels.
pub(super) async fn shards(target: &Target) -> Result<BTreeMap<Host, Vec<usize>>, LinkError> {
    let mut errors = Vec::new();
    for host in from_anywhere(&target.hosts) {
        match ask_shard(target, host).await {
            Ok(owners) => return Ok(owners),
            Err(error) => errors.push(error),
        }
    }
    Err(LinkError::of_all(errors))
}

async fn ask_shard(target: &Target, host: &Host) -> Result<BTreeMap<Host, Vec<usize>>, LinkError> {
    let mut socket = open_alone(target, host, login(target)).await?;
    let limit = CLUSTER_COMMAND_TIMEOUT;
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    let what = "CLUSTER SLOTS";
    // On a Redis of its own: `ERR This instance has cluster support disabled`.
    let ranges: Vec<Value> = match socket.ask(what, limit, &command).await {
        Err(LinkError::Refused { why, .. }) if why.contains("disabled") => {
            return Err(LinkError::Kind {
                host: host.to_string(),
                is: "Redis of its own",
                scheme: "redis",
            });
        }
        answer => answer?,
    };
    let ranges: Vec<Range> = ranges
        .iter()
        .filter_map(|range| read_range(range, host))
        .collect();
    let mut owners: BTreeMap<Host, Vec<usize>> = BTreeMap::new();
    for channel in 0..CLUSTER_CHANNELS {
        let slot = slot(&format!("{}:{channel}", target.prefix));
        let serves = |range: &&Range| (range.first..=range.last).contains(&slot);
        let range = ranges.iter().find(serves).ok_or(LinkError::Unserved {
            host: host.to_string(),
            channel,
        })?;
        owners.entry(range.host.clone()).or_default().push(channel);
    }
    Ok(owners)
}

struct Range {
    first: u16,
    last: u16,
    host: Host,
}

/// `[first, last, [host, port, …], replicas…]`. No host, or an empty one, is the one that was
/// asked.
fn read_range(value: &Value, asked: &Host) -> Option<Range> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [first, last, Value::Array(primary), ..] = &parts[..] else {
        return None;
    };
    let [name, port, ..] = &primary[..] else {
        return None;
    };
    let name = match name {
        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
        Value::SimpleString(name) => name.clone(),
        _ => String::new(),
    };
    let name = match asked {
        Host::Tcp(asked, _) if name.is_empty() => asked.clone(),
        _ => name,
    };
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    Some(Range {
        first: number(first)?,
        last: number(last)?,
        host: Host::Tcp(name, number(port)?),
    })
}

/// What the cluster's servers call the slot of this tag: CRC-16/XMODEM of what stands in braces.
fn slot(tag: &str) -> u16 {
    let shift = |crc: u16| {
        if crc & 0x8000 == 0 {
            crc << 1
        } else {
            (crc << 1) ^ 0x1021
        }
    };
    let crc = tag.bytes().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| shift(crc))
    });
    crc % SLOTS
}

fn from_anywhere(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    let first = Rng::random().below(hosts.len().max(1));
    hosts[first..].iter().chain(&hosts[..first])
}

/// A connection of which nothing is wanted but an answer; what comes by itself is nobody's.
async fn open_alone(
    target: &Target,
    host: &Host,
    info: RedisConnectionInfo,
) -> Result<Socket, LinkError> {
    let (nobody, _) = tokio::sync::mpsc::channel(1);
    Socket::open(target, host, info, &Pulse::new(nobody)).await
}

fn login(target: &Target) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default();
    if let Some(user) = &target.user {
        info = info.set_username(user);
    }
    if let Some(password) = &target.password {
        info = info.set_password(password);
    }
    info
}

struct Hello {
    mode: String,
    takes_writes: bool,
}

/// `ROLE` would say it too, but is a right of administrators; every user may say `HELLO`.
async fn hello(socket: &mut Socket) -> Result<Hello, LinkError> {
    let mut command = cmd("HELLO");
    command.arg(3);
    let limit = CLUSTER_COMMAND_TIMEOUT;
    let mut says: HashMap<String, Value> = socket.ask("HELLO", limit, &command).await?;
    let mut text = |key: &str| match says.remove(key) {
        Some(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
        Some(Value::SimpleString(text)) => text,
        _ => String::new(),
    };
    Ok(Hello {
        mode: text("mode"),
        takes_writes: ["master", "primary"].contains(&text("role").as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The check value of CRC-16/XMODEM, and two that Redis's own documents name.
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("user1000"), 3_443);
    }

    #[test]
    fn channels_spread_over_the_slots() {
        let mut thirds = [0; 3];
        for channel in 0..CLUSTER_CHANNELS {
            let slot = slot(&format!("tidewall:{channel}"));
            thirds[usize::from(slot) * 3 / usize::from(SLOTS)] += 1;
        }
        assert!(thirds.iter().all(|&channels| 2 <= channels), "{thirds:?}");
    }

    #[test]
    fn ranges_are_read_and_nonsense_is_not() {
        let asked = Host::Tcp("seed".to_owned(), 7000);
        let name = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |host: Value, port: i64| {
            let primary = Value::Array(vec![host, Value::Int(port), name("id")]);
            Value::Array(vec![Value::Int(0), Value::Int(5460), primary])
        };
        let host = |value: &Value| read_range(value, &asked).map(|range| range.host.to_string());
        assert_eq!(host(&range(name("a"), 7001)), Some("a:7001".to_owned()));
        assert_eq!(host(&range(name(""), 7001)), Some("seed:7001".to_owned()));
        assert_eq!(host(&range(Value::Nil, 7001)), Some("seed:7001".to_owned()));
        assert_eq!(host(&range(name("a"), 70_000)), None);
        assert_eq!(host(&Value::Array(vec![Value::Int(1)])), None);
        assert_eq!(host(&Value::Nil), None);
    }
}
