//! The link to Redis: every kind of server, who is let in, and what is said to others.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use redis::cmd;
use tidewall::cluster::redis::error::LinkError;
use tidewall::cluster::redis::target::Target;
use tokio::time::timeout;

use crate::redis_ear::{Ear, SOON, check_all, no_tasks_left, refusal, run, target};
use crate::redis_server::{RedisCluster, RedisServer, command};
use crate::support::{PATIENCE, eventually};

#[test]
fn one_server_joins_nodes() {
    let server = RedisServer::start(&[]);
    run(check_all(&target(&server.url())));
    run(check_all(
        &Target::parse(&server.url(), "other", None).unwrap(),
    ));
    run(check_all(&target(&format!(
        "unix://{}/s",
        server.folder().display()
    ))));
    server.run("FLUSHALL");
    run(check_all(&target(&server.url())));
    // Nothing without an end.
    let keys: Vec<String> = server.ask(&command("KEYS *"));
    assert_eq!(keys.iter().filter(|key| key.contains(":key:n:")).count(), 2);
    for key in keys {
        let left: i64 = server.ask(cmd("PTTL").arg(&key));
        assert!(left != -1, "{key} would stay for ever");
    }
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
        let error = timeout(SOON, ear.link.broken()).await.unwrap();
        assert!(matches!(error, LinkError::Replica(_)), "{error}");
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
         +getrange +zadd +zrem +zremrangebyscore +zremrangebyrank +zrange +pexpire +time \
         +subscribe +publish",
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
fn what_is_no_redis_of_today_is_told() {
    let check = |says: &'static [u8], expected: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(says);
            // Until the other end has heard enough.
            let _ = stream.read(&mut [0; 256]);
        });
        let error = run(refusal(&target(&url))).to_string();
        assert!(error.contains(expected), "{error}");
        server.join().unwrap();
    };
    let old = b"-ERR unknown command `HELLO`, with args beginning with: `3`\r\n";
    check(old, "does not speak RESP3: Redis 6.0");
    check(
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "does not answer HELLO as Redis does",
    );
    check(b"-LOADING soon\r\n", "answers HELLO with LOADING soon");
    check(b"", "no answer to HELLO within");
    check(b"$16777216\r\n", "no answer to HELLO within");
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
        let error = error.to_string();
        let expected = "no sentinel knows a primary of the name wal: ";
        assert!(error.starts_with(expected), "{error}");
        assert!(error.contains("127.0.0.1:1 cannot be reached"), "{error}");
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
        let ear = Ear::open(&url).await;
        for shard in &cluster.shards {
            let channels: Vec<String> = shard.ask(&command("PUBSUB SHARDCHANNELS"));
            assert!((4..=7).contains(&channels.len()), "{channels:?}");
            let plain: Vec<String> = shard.ask(&command("PUBSUB CHANNELS"));
            assert!(plain.is_empty(), "{plain:?}");
        }
        drop(ear);
        no_tasks_left().await;
        let error = refusal(&target(&cluster.shards[0].url())).await.to_string();
        assert!(error.contains("is a shard of a cluster"), "{error}");
    });
    for server in cluster.shards.iter().chain([&cluster.replica]) {
        server.run(
            "ACL SETUSER tide on >s3cret resetchannels ~{wall:* &{wall:* -@all +hello +select \
             +set +getrange +zadd +zrem +zremrangebyscore +zremrangebyrank +zrange +pexpire \
             +time +ssubscribe +spublish +cluster|slots",
        );
    }
    run(check_all(&target(&url.replace("://", "://tide:s3cret@"))));
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
        // By its own silence, or by the others that say so: `CLUSTERDOWN`.
        timeout(SOON, ear.link.broken()).await.unwrap();
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
        let error = timeout(PATIENCE, ear.link.broken()).await.unwrap();
        assert!(matches!(error, LinkError::Moved(_)), "{error}");
        Ear::reopen(&url).await;
        check_all(&target(&url)).await;
    });
}
