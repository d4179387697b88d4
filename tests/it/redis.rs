//! The link to Redis against real servers: every kind of them, and every way they go.

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Cmd, cmd};
use tidewall::cluster::redis::Link;
use tidewall::cluster::redis::error::LinkError;
use tidewall::cluster::redis::target::Target;
use tidewall::limits::{
    CLUSTER_CHANNELS, CLUSTER_KEYFRAME_BYTES_MAX, CLUSTER_MESSAGE_BYTES_MAX, CLUSTER_NODES_MAX,
    CLUSTER_UNPARSED_BYTES_MAX,
};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{sleep, timeout};

use crate::proxy::{Fault, Proxy};
use crate::redis_server::{RedisCluster, RedisServer, command};
use crate::support::{PATIENCE, eventually};

/// What a server that is stopped or gone may cost before it is known: a second, and a busy machine.
const SOON: Duration = Duration::from_secs(4);
const TTL: Duration = Duration::from_secs(60);

fn run<T>(task: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async { timeout(4 * PATIENCE, task).await.unwrap() })
}

fn target(url: &str) -> Target {
    Target::parse(url, "wall", None).unwrap()
}

/// A link, and what it hears.
struct Ear {
    link: Link,
    inbox: Receiver<Bytes>,
}

impl Ear {
    async fn connect(target: &Target) -> Result<Ear, LinkError> {
        let (sender, inbox) = channel(64);
        let link = Link::connect(target, sender).await?;
        Ok(Ear { link, inbox })
    }

    async fn open(url: &str) -> Ear {
        Ear::connect(&target(url)).await.unwrap()
    }

    /// Once the other side is up again, as a service would.
    async fn reopen(url: &str) -> Ear {
        let until = Instant::now() + PATIENCE;
        loop {
            match Ear::connect(&target(url)).await {
                Ok(ear) => return ear,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn hear(&mut self) -> Bytes {
        timeout(PATIENCE, self.inbox.recv()).await.unwrap().unwrap()
    }
}

/// The error of a connection that is refused.
async fn refusal(target: &Target) -> LinkError {
    Ear::connect(target).await.err().expect("a refusal")
}

/// All that a link is for, on two of them.
async fn check_all(target: &Target) {
    let (mut a, mut b) = (
        Ear::connect(target).await.unwrap(),
        Ear::connect(target).await.unwrap(),
    );
    for channel in 0..CLUSTER_CHANNELS {
        let message = [channel as u8, 0, 13, 10, 255];
        a.link.publish(channel, &message).await.unwrap();
        // The one that said it hears it too.
        assert_eq!(a.hear().await, &message[..]);
        assert_eq!(b.hear().await, &message[..]);
    }
    let keyframe = vec![7; 300_000];
    a.link
        .store_keyframe("n:1", 5, &keyframe, TTL)
        .await
        .unwrap();
    a.link.store_keyframe("n:2", 9, b"old", TTL).await.unwrap();
    a.link.store_keyframe("n:2", 9, b"new", TTL).await.unwrap();
    assert_eq!(b.link.nodes().await.unwrap(), ["n:1", "n:2"]);
    let mut load = async |node, channel| b.link.load_keyframe(node, channel).await.unwrap();
    assert_eq!(load("n:1", 5).await, Some(keyframe));
    assert_eq!(load("n:2", 9).await, Some(b"new".to_vec()));
    assert_eq!(load("n:3", 9).await, None);
    b.link.check().await.unwrap();
    assert_eq!((a.link.dropped(), b.link.dropped()), (0, 0));
}

#[test]
fn one_server_joins_nodes() {
    let server = RedisServer::start(&[]);
    run(check_all(&target(&server.url())));
    run(check_all(
        &Target::parse(&server.url(), "other", None).unwrap(),
    ));
    run(check_all(
        &target(&format!("unix://{}/s", server.folder().display())).clone(),
    ));
    server.run("FLUSHALL");
    run(check_all(&target(&format!("{}/2", server.url()))));
    // Not before another wall's, and nothing without an end.
    let keys: Vec<String> = server.ask(&command("KEYS *"));
    assert!(keys.is_empty(), "{keys:?}");
    let mut in_db = redis::pipe();
    in_db.cmd("SELECT").arg(2).ignore().cmd("KEYS").arg("*");
    let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let (keys,): (Vec<String>,) = in_db.query(&mut connection).unwrap();
    assert_eq!(keys.iter().filter(|key| key.contains(":key:n:")).count(), 2);
    for key in keys {
        let left: i64 = cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        assert!(left != -1, "{key} would stay for ever");
    }
}

#[test]
fn a_killed_server_ends_the_link_and_another_is_had_from_the_next() {
    let mut server = RedisServer::start(&[]);
    run(async {
        let mut ear = Ear::open(&server.url()).await;
        assert!(
            timeout(Duration::from_millis(50), ear.link.broken())
                .await
                .is_err()
        );
        server.kill();
        let error = timeout(SOON, ear.link.broken()).await.unwrap();
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        // Whatever is asked then says the same.
        assert_eq!(ear.link.publish(0, b"x").await.unwrap_err(), error);
        assert_eq!(ear.link.broken().await, error);
        let error = refusal(&target(&server.url())).await;
        assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
        server.restart();
        check_all(&target(&server.url())).await;
    });
}

#[test]
fn a_frozen_server_costs_a_second() {
    let server = RedisServer::start(&[]);
    run(async {
        let mut ear = Ear::open(&server.url()).await;
        server.freeze();
        let begun = Instant::now();
        let error = ear.link.publish(0, b"x").await.unwrap_err();
        assert!(matches!(error, LinkError::Timeout { .. }), "{error}");
        let error = refusal(&target(&server.url())).await;
        assert!(matches!(error, LinkError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < 2 * SOON);
        assert!(timeout(SOON, ear.link.broken()).await.is_ok());
        server.thaw();
        drop(ear);
        Ear::reopen(&server.url()).await;
        check_all(&target(&server.url())).await;
    });
}

#[test]
fn a_bad_way_ends_the_link() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let url = format!("redis://{}", proxy.address());
    run(async {
        // Half-open: nobody hears of it.
        let mut ear = Ear::open(&url).await;
        proxy.set(Fault::Swallow);
        let begun = Instant::now();
        let error = ear.link.check().await.unwrap_err();
        assert!(matches!(error, LinkError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < SOON);
        proxy.set(Fault::None);
        // Reset, as by a host that was restarted.
        let mut ear = Ear::open(&url).await;
        proxy.reset();
        timeout(SOON, ear.link.broken()).await.unwrap();
        // In the middle of a keyframe.
        let mut ear = Ear::open(&url).await;
        proxy.set(Fault::CutAfter(10_000));
        let keyframe = vec![7; 100_000];
        let stored = ear.link.store_keyframe("n", 0, &keyframe, TTL).await;
        assert!(stored.is_err());
        proxy.set(Fault::Refuse);
        let error = refusal(&target(&url)).await;
        assert!(!matches!(error, LinkError::Timeout { .. }), "{error}");
        proxy.set(Fault::Delay(Duration::from_millis(20)));
        check_all(&target(&url)).await;
    });
}

#[test]
fn a_full_inbox_drops_and_counts() {
    let server = RedisServer::start(&[]);
    run(async {
        let (sender, mut inbox) = channel(2);
        let mut link = Link::connect(&target(&server.url()), sender).await.unwrap();
        for number in 0..10u8 {
            link.publish(0, &[number]).await.unwrap();
        }
        // What is published is answered after it was heard.
        assert_eq!(link.dropped(), 8);
        assert_eq!(inbox.recv().await.unwrap(), &[0][..]);
        link.publish(1, &[10]).await.unwrap();
        assert_eq!(inbox.recv().await.unwrap(), &[1][..]);
        assert_eq!(inbox.recv().await.unwrap(), &[10][..]);
    });
}

#[test]
fn no_message_is_longer_than_its_bound() {
    let server = RedisServer::start(&[]);
    let publish = |bytes: usize| {
        let mut command = cmd("PUBLISH");
        command.arg("{wall:3}:frames").arg(vec![7u8; bytes]);
        server.ask::<usize>(&command);
    };
    run(async {
        let mut ear = Ear::open(&server.url()).await;
        let longest = vec![7; CLUSTER_MESSAGE_BYTES_MAX + 1];
        let error = ear.link.publish(0, &longest).await.unwrap_err();
        assert!(matches!(error, LinkError::Oversize { .. }), "{error}");
        ear.link.publish(0, &longest[1..]).await.unwrap();
        assert_eq!(ear.hear().await.len(), CLUSTER_MESSAGE_BYTES_MAX);
        // Somebody else's.
        publish(CLUSTER_MESSAGE_BYTES_MAX + 1);
        ear.link.publish(3, b"next").await.unwrap();
        assert_eq!(ear.hear().await, &b"next"[..]);
        assert_eq!(ear.link.dropped(), 1);
        publish(CLUSTER_UNPARSED_BYTES_MAX + 100_000);
        let error = timeout(PATIENCE, ear.link.broken()).await.unwrap();
        assert!(matches!(error, LinkError::TooLarge { .. }), "{error}");
    });
}

#[test]
fn no_keyframe_is_longer_than_its_bound() {
    let server = RedisServer::start(&[]);
    run(async {
        let mut ear = Ear::open(&server.url()).await;
        let longest = vec![7; CLUSTER_KEYFRAME_BYTES_MAX + 1];
        let stored = ear.link.store_keyframe("n", 0, &longest, TTL).await;
        assert!(matches!(stored, Err(LinkError::Oversize { .. })));
        let stored = ear.link.store_keyframe("n", 0, &longest[1..], TTL).await;
        stored.unwrap();
        let loaded = ear.link.load_keyframe("n", 0).await.unwrap().unwrap();
        assert_eq!(loaded.len(), CLUSTER_KEYFRAME_BYTES_MAX);
        // Somebody else's: the link lives on.
        for more in [1, 1_000_000] {
            let mut command = cmd("SET");
            let bytes = vec![7u8; CLUSTER_KEYFRAME_BYTES_MAX + more];
            server.ask::<()>(command.arg("{wall:0}:key:n").arg(bytes));
            assert_eq!(ear.link.load_keyframe("n", 0).await.unwrap(), None);
        }
        assert_eq!(ear.link.dropped(), 2);
        ear.link.check().await.unwrap();
    });
}

#[test]
fn the_list_of_nodes_is_bounded() {
    let server = RedisServer::start(&[]);
    let (seconds, _): (i64, i64) = server.ask(&command("TIME"));
    let add = |score: i64, name: &str| {
        let mut command: Cmd = cmd("ZADD");
        server.ask::<usize>(command.arg("{wall:0}:nodes").arg(score).arg(name));
    };
    run(async {
        let mut ear = Ear::open(&server.url()).await;
        assert!(ear.link.nodes().await.unwrap().is_empty());
        add(seconds * 1_000 - 120_000, "gone");
        add(seconds * 1_000, "no name");
        ear.link.store_keyframe("n", 0, b"x", TTL).await.unwrap();
        assert_eq!(ear.link.nodes().await.unwrap(), ["n"]);
        for number in 0..CLUSTER_NODES_MAX {
            add(seconds * 1_000 + 10_000, &format!("m{number}"));
        }
        let nodes = ear.link.nodes().await.unwrap();
        assert_eq!(nodes.len(), CLUSTER_NODES_MAX);
        assert!(!nodes.contains(&"n".to_owned()), "the newest stay");
        let left: usize = server.ask(&command("ZCARD {wall:0}:nodes"));
        assert_eq!(left, CLUSTER_NODES_MAX);
    });
}

#[test]
fn a_link_that_is_dropped_leaves_nothing() {
    let server = RedisServer::start(&[]);
    run(async {
        for _ in 0..5 {
            let mut ear = Ear::open(&server.url()).await;
            // Dropped in mid-question too.
            let ask = ear.link.publish(0, b"x");
            let _ = timeout(Duration::ZERO, ask).await;
        }
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let until = Instant::now() + PATIENCE;
        while 0 < tasks() {
            assert!(Instant::now() < until, "{} tasks are left", tasks());
            sleep(Duration::from_millis(10)).await;
        }
        eventually("a server without clients", || {
            // The one that asks.
            server.info("connected_clients") == "1"
        });
    });
}

#[test]
fn a_replica_is_refused_and_a_list_finds_the_primary() {
    let primary = RedisServer::start(&[]);
    let replica = RedisServer::replica_of(&primary);
    let list = format!("{},127.0.0.1:{}", replica.url(), primary.port());
    run(async {
        let error = refusal(&target(&replica.url())).await;
        let shown = format!("127.0.0.1:{} is a replica", replica.port());
        assert!(error.to_string().starts_with(&shown), "{error}");
        check_all(&target(&list)).await;
        // The primary steps down: it still takes what is published, and nobody hears it.
        let mut ear = Ear::open(&list).await;
        replica.run("REPLICAOF NO ONE");
        primary.run(&format!("REPLICAOF 127.0.0.1 {}", replica.port()));
        let error = ear.link.check().await.unwrap_err();
        assert!(matches!(error, LinkError::Replica(_)), "{error}");
        assert_eq!(ear.link.broken().await, error);
        check_all(&target(&list)).await;
    });
}

#[test]
fn a_list_without_a_primary_says_why() {
    let primary = RedisServer::start(&[]);
    let replica = RedisServer::replica_of(&primary);
    let url = format!("{},127.0.0.1:1", replica.url());
    let error = run(refusal(&target(&url))).to_string();
    assert!(error.contains("is a replica"), "{error}");
    assert!(error.contains("127.0.0.1:1 cannot be reached"), "{error}");
}

#[test]
fn a_user_needs_few_rights() {
    let server = RedisServer::start(&[]);
    // As docs/CLUSTER.md has it.
    server.run(
        "ACL SETUSER tide on >s3cret resetchannels ~{wall:* &{wall:* -@all +hello +select +set \
         +getrange +zadd +zremrangebyscore +zremrangebyrank +zrange +pexpire +time +subscribe \
         +publish",
    );
    let url = |login: &str| format!("redis://{login}@127.0.0.1:{}", server.port());
    run(check_all(&target(&url("tide:s3cret"))));
    let check = |login: &str, expected: &str| {
        let error = run(refusal(&target(&url(login)))).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("s3"), "{error}");
    };
    check(
        "tide:s3wrong",
        "does not take the user and password of the URL",
    );
    check("nobody:s3wrong", "does not take the user and password");
    server.run("ACL SETUSER tide resetkeys");
    check("tide:s3cret", "does not let this user do a write");
    server.run("ACL SETUSER tide ~{wall:* resetchannels");
    check("tide:s3cret", "does not let this user do SUBSCRIBE");
    server.run("CONFIG SET requirepass s3cret");
    let error = run(refusal(&target(&server.url()))).to_string();
    assert!(error.contains("user and password"), "{error}");
    run(check_all(&target(&url(":s3cret"))));
}

#[test]
fn a_server_that_takes_no_writes_says_why() {
    let server = RedisServer::start(&["--min-replicas-to-write", "1"]);
    let error = run(refusal(&target(&server.url()))).to_string();
    assert!(error.contains("answers a write with NOREPLICAS"), "{error}");
}

#[test]
fn tls_is_checked() {
    let (server, port) = RedisServer::start_tls();
    let ca: PathBuf = server.folder().join("cert.pem");
    let secure = |host: &str, port: u16, ca: Option<&PathBuf>| {
        let url = format!("rediss://{host}:{port}");
        Target::parse(&url, "wall", ca.map(PathBuf::as_path)).unwrap()
    };
    run(check_all(&secure("localhost", port, Some(&ca))));
    let other = server.folder().join("other.pem");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other, made.cert.pem()).unwrap();
    let check = |target: &Target, expected: &str| {
        let error = run(refusal(target)).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&secure("localhost", port, Some(&other)), "--redis-ca FILE");
    check(
        &secure("127.0.0.1", port, Some(&ca)),
        "is not for that name",
    );
    // Redis waits for the rest of what it takes for a command.
    let clear = secure("localhost", server.port(), Some(&ca));
    check(&clear, "no answer to a TLS handshake within");
    let clear = target(&format!("redis://localhost:{port}"));
    check(&clear, "the URL begins with rediss");
}

#[test]
fn sentinels_lead_to_the_primary_and_to_the_next() {
    let mut primary = RedisServer::start(&[]);
    let _replica = RedisServer::replica_of(&primary);
    let sentinel = RedisServer::start_sentinel(&primary);
    eventually("a sentinel that knows the replica", || {
        sentinel.info("master0").contains("slaves=1")
    });
    // The first is none that answers.
    let hosts = format!("127.0.0.1:1,127.0.0.1:{}", sentinel.port());
    let url = format!("redis+sentinel://{hosts}/wall");
    run(check_all(&target(&url)));
    // Sentinels that know no user, as they mostly do, beside servers that know one.
    primary.run("ACL SETUSER tide on >s3cret allchannels allkeys allcommands");
    run(check_all(&target(&url.replace("://", "://tide:s3cret@"))));
    run(async {
        let error = refusal(&target(&format!("redis+sentinel://{hosts}/wal"))).await;
        let expected = "no sentinel knows a primary of the name wal: 127.0.0.1:1 cannot";
        assert!(error.to_string().starts_with(expected), "{error}");
        let wrong = target(&format!("redis://127.0.0.1:{}", sentinel.port()));
        let error = refusal(&wrong).await.to_string();
        assert!(
            error.contains("is a sentinel: the URL begins with"),
            "{error}"
        );
        let mut ear = Ear::open(&url).await;
        primary.kill();
        timeout(SOON, ear.link.broken()).await.unwrap();
        Ear::reopen(&url).await;
        check_all(&target(&url)).await;
    });
}

#[test]
fn a_cluster_spreads_channels_over_its_shards() {
    let cluster = RedisCluster::start();
    let url = cluster.url();
    run(check_all(&target(&url)));
    run(async {
        let _ear = Ear::open(&url).await;
        for shard in &cluster.shards {
            let channels: Vec<String> = shard.ask(&command("PUBSUB SHARDCHANNELS"));
            assert!((4..=7).contains(&channels.len()), "{channels:?}");
            let plain: Vec<String> = shard.ask(&command("PUBSUB CHANNELS"));
            assert!(plain.is_empty(), "{plain:?}");
        }
        let error = refusal(&target(&cluster.shards[0].url())).await.to_string();
        assert!(error.contains("is a shard of a cluster"), "{error}");
    });
    let alone = RedisServer::start(&[]);
    let url = alone.url().replace("redis:", "redis+cluster:");
    let error = run(refusal(&target(&url))).to_string();
    assert!(error.contains("is a Redis of its own"), "{error}");
}

#[test]
fn a_shard_that_fails_over_ends_the_link() {
    let mut cluster = RedisCluster::start();
    let url = cluster.url();
    run(async {
        let mut ear = Ear::open(&url).await;
        cluster.shards[0].kill();
        timeout(SOON, ear.link.broken()).await.unwrap();
        // Until another is elected nothing can be had, and every try says so in time.
        Ear::reopen(&url).await;
        check_all(&target(&url)).await;
    });
    // A shard that hangs, though this node publishes to another.
    cluster.await_health(1);
    run(async {
        let mut ear = Ear::open(&url).await;
        cluster.shards[1].freeze();
        let begun = Instant::now();
        let error = ear.link.check().await.unwrap_err();
        assert!(matches!(error, LinkError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < SOON);
        cluster.shards[1].thaw();
        drop(ear);
        Ear::reopen(&url).await;
    });
}

#[test]
fn slots_that_move_end_the_link() {
    let cluster = RedisCluster::start();
    let url = cluster.url();
    run(async {
        let mut ear = Ear::open(&url).await;
        // The replica takes over in peace: nothing is closed, but what was subscribed is gone.
        cluster.replica.run("CLUSTER FAILOVER");
        let until = Instant::now() + PATIENCE;
        let error = loop {
            if let Err(error) = ear.link.check().await {
                break error;
            }
            assert!(Instant::now() < until, "a link to a replica");
            sleep(Duration::from_millis(10)).await;
        };
        assert!(matches!(error, LinkError::Moved(_)), "{error}");
        Ear::reopen(&url).await;
        check_all(&target(&url)).await;
    });
}
