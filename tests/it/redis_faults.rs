//! The link to Redis when the server, the way to it or somebody on it is bad.

use std::time::{Duration, Instant};

use redis::{Cmd, cmd};
use tidewall::cluster::redis::Link;
use tidewall::cluster::redis::error::LinkError;
use tidewall::limits::{
    CLUSTER_KEYFRAME_BYTES_MAX, CLUSTER_MESSAGE_BYTES_MAX, CLUSTER_NODES_MAX,
    CLUSTER_UNPARSED_BYTES_MAX,
};
use tokio::sync::mpsc::channel;
use tokio::time::timeout;

use crate::proxy::{Fault, Proxy};
use crate::redis_ear::{Ear, SOON, TTL, check_all, no_tasks_left, refusal, run, target};
use crate::redis_server::{RedisServer, command};
use crate::support::{PATIENCE, eventually};

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
        let error = timeout(SOON, ear.link.broken()).await.unwrap();
        assert!(matches!(error, LinkError::Timeout { .. }), "{error}");
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
fn a_cut_anywhere_is_an_error_and_never_a_wait() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let target = target(&format!("redis://{}", proxy.address()));
    let live = async || {
        let mut ear = Ear::connect(&target).await?;
        ear.link.publish(0, &[7; 500]).await?;
        ear.link.store_keyframe("n", 0, &[7; 500], TTL).await?;
        ear.link.nodes().await?;
        ear.link.load_keyframe("n", 0).await
    };
    run(async {
        let mut cuts = 0;
        loop {
            proxy.set(Fault::CutAfter(1 + cuts * 53));
            let begun = Instant::now();
            let lived = live().await;
            assert!(begun.elapsed() < SOON, "{lived:?}");
            if lived.is_ok() {
                break;
            }
            cuts += 1;
        }
        assert!(20 < cuts, "only {cuts} cuts");
        proxy.set(Fault::None);
        no_tasks_left().await;
        assert_eq!(live().await, Ok(Some(vec![7; 500])));
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
        assert_eq!(inbox.recv().await.unwrap().message, &[0][..]);
        link.publish(1, &[10]).await.unwrap();
        assert_eq!(inbox.recv().await.unwrap().message, &[1][..]);
        assert_eq!(inbox.recv().await.unwrap().message, &[10][..]);
    });
}

#[test]
fn one_that_is_behind_is_cut_by_redis_and_knows() {
    let limits = ["--client-output-buffer-limit", "pubsub", "1mb", "0", "0"];
    let server = RedisServer::start(&limits);
    run(async {
        let mut ear = Ear::open(&server.url()).await;
        // Nothing is read meanwhile; more than the kernel's buffers hold.
        let mut commands = redis::pipe();
        for _ in 0..64 {
            let message = vec![7u8; 500_000];
            commands.cmd("PUBLISH").arg("{wall:3}:frames").arg(message);
        }
        let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
        let heard: Vec<usize> = commands
            .query(&mut client.get_connection().unwrap())
            .unwrap();
        assert_eq!((heard[0], heard[63]), (1, 0));
        let error = timeout(SOON, ear.link.broken()).await.unwrap();
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        check_all(&target(&server.url())).await;
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
        ear.link.publish(0, b"x").await.unwrap();
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
        no_tasks_left().await;
        eventually("a server without clients", || {
            // The one that asks.
            server.info("connected_clients") == "1"
        });
    });
}
