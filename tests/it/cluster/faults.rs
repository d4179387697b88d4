//! What goes wrong between nodes: nobody waits for it, what cannot be seen is said, and in the end
//! all is there.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::wall::{Wall, host, is_partial, join, standing};
use crate::proxy::{Fault, Proxy};
use crate::redis_server::{RedisServer, command};
use crate::support::eventually;

fn proxy_to(server: &RedisServer) -> (Proxy, String) {
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into());
    let url = format!("redis://{}", proxy.address());
    (proxy, url)
}

/// Each shows its own hosts, and says that it may not know them all.
fn await_alone(wall: &Wall) {
    for seat in &wall.seats {
        eventually("nodes without Redis to say so", || is_partial(&seat.node));
        wall.await_motion(seat.name, seat.name);
    }
}

/// Neither hears the other.
fn await_parted(wall: &Wall, one: &str, other: &str) {
    wall.await_cut(one, other);
    wall.await_cut(other, one);
}

#[test]
fn redis_may_come_late_and_be_killed_and_come_back_empty() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let url = server.url();
    let wall = Wall::start(&[("a", &url), ("b", &url)]);
    await_alone(&wall);
    assert_eq!(host(wall.node("a"), "b-0"), None);
    server.restart();
    wall.await_whole("a late start");
    let mut live = wall.node("a").live(None);
    server.kill();
    await_parted(&wall, "a", "b");
    let partial: Value = ["partial"].into();
    eventually("a frame that says so", || {
        live.next_json()["flags"] == partial
    });
    server.restart();
    wall.await_whole("a restart");
    wall.end();
}

#[test]
fn redis_may_be_frozen() {
    let server = RedisServer::start(&[]);
    let url = server.url();
    let wall = Wall::start(&[("a", &url), ("b", &url)]);
    wall.await_whole("start");
    server.freeze();
    thread::sleep(Duration::from_secs(4));
    await_parted(&wall, "a", "b");
    server.thaw();
    wall.await_whole("a freeze");
    wall.end();
}

#[test]
fn redis_may_fail_over() {
    let mut primary = RedisServer::start(&[]);
    let replica = RedisServer::replica_of(&primary);
    let url = format!("{},127.0.0.1:{}", primary.url(), replica.port());
    let wall = Wall::start(&[("a", &url), ("b", &url)]);
    wall.await_whole("start");
    primary.kill();
    await_parted(&wall, "a", "b");
    replica.run("REPLICAOF NO ONE");
    wall.await_whole("a failover");
    // In peace: the one that steps down still takes what is said, and tells those who are there.
    primary.restart();
    let port = primary.port();
    replica.run(&format!("REPLICAOF 127.0.0.1 {port}"));
    eventually("nodes that follow", || {
        let ask = command("PUBSUB NUMSUB {tidewall:0}:frames");
        let (_, subscribers): (String, usize) = primary.ask(&ask);
        subscribers == wall.seats.len()
    });
    wall.await_whole("a step down");
    wall.end();
}

#[test]
fn the_way_to_redis_may_be_half_open() {
    let server = RedisServer::start(&[]);
    let (proxy, url) = proxy_to(&server);
    let wall = Wall::start(&[("a", &url), ("b", &url)]);
    wall.await_whole("start");
    proxy.set(Fault::Swallow);
    await_parted(&wall, "a", "b");
    proxy.set(Fault::None);
    wall.await_whole("a half-open way");
    proxy.reset();
    wall.await_whole("a reset");
    wall.end();
}

#[test]
fn both_sides_of_a_cut_tell_the_truth() {
    let server = RedisServer::start(&[]);
    let (proxy, cut) = proxy_to(&server);
    let url = server.url();
    let wall = Wall::start(&[("a", &url), ("b", &url), ("c", &cut)]);
    wall.await_whole("start");
    proxy.set(Fault::Swallow);
    for (one, other) in [("a", "c"), ("b", "c"), ("c", "a"), ("c", "b")] {
        wall.await_cut(one, other);
    }
    for (one, other) in [("a", "b"), ("b", "a")] {
        assert_eq!(standing(wall.node(one), other), "reachable");
        wall.await_motion(one, other);
    }
    proxy.set(Fault::None);
    wall.await_whole("a cut");
    wall.end();
}

/// A host that was heard once: nobody but its node's keyframe can tell of it.
fn post_once(node: &crate::support::Node, name: &str) {
    let body = format!(r#"{{"host":"{name}","tags":{{"dc":"x"}},"metrics":{{"cpu":7,"mem":8}}}}"#);
    assert_eq!(node.connect().post(&body).unwrap().status, 201);
}

#[test]
fn a_node_may_be_killed_and_come_back() {
    let server = RedisServer::start(&[]);
    let url = server.url();
    let mut a = join("a", &url, &[]);
    let b = join("b", &url, &[]);
    eventually("nodes that hear each other", || {
        standing(&a, "b") == "reachable" && standing(&b, "a") == "reachable"
    });
    post_once(&a, "quiet");
    eventually("the host on both", || host(&b, "quiet").is_some());
    let stored = || a.metric("tidewall_cluster_keyframes_stored_total");
    let before = stored();
    // The second was begun after the host was heard.
    eventually("a keyframe of it", || before + 2 <= stored());
    a.signal("-KILL");
    a.wait();
    eventually("a node that misses the other", || {
        let shown = host(&b, "quiet").unwrap();
        let is_told = shown["host"]["cause"] == "node a unreachable";
        is_told && shown["host"]["state"] == "stale" && is_partial(&b)
    });
    // One that never heard it knows of it all the same.
    let c = join("c", &url, &[]);
    eventually("a newcomer that misses it too", || {
        host(&c, "quiet").is_some_and(|shown| shown["host"]["cause"] == "node a unreachable")
    });
    let a = join("a", &url, &[]);
    for node in [&a, &b, &c] {
        eventually("everybody to have it", || {
            let Some(shown) = host(node, "quiet") else {
                return false;
            };
            let value = |metric: &str| shown["host"]["metrics"][metric]["value"].as_f64();
            assert_eq!((value("cpu"), value("mem")), (Some(7.0), Some(8.0)));
            shown["host"]["cause"].is_null() && !is_partial(node)
        });
    }
    let shown = host(&a, "quiet").unwrap();
    assert_eq!(shown["host"]["tags"]["dc"], "x");
    let age_ms = shown["host"]["age_ms"].as_u64().unwrap();
    let other_ms = host(&b, "quiet").unwrap()["host"]["age_ms"]
        .as_u64()
        .unwrap();
    assert!(age_ms.abs_diff(other_ms) < 2_000, "{age_ms} {other_ms}");
    assert!(2_000 < age_ms, "{age_ms}: it was not heard since");
}

#[test]
fn a_node_that_stops_in_order_leaves() {
    let server = RedisServer::start(&[]);
    let url = server.url();
    let wall = Wall::start(&[("a", &url), ("b", &url)]);
    let mut c = join("c", &url, &[]);
    for at in 0..20 {
        post_once(&c, &format!("quiet-{}", at % 2));
        thread::sleep(Duration::from_millis(60));
    }
    for seat in &wall.seats {
        eventually("a third node", || {
            standing(&seat.node, "c") == "reachable" && host(&seat.node, "quiet-1").is_some()
        });
    }
    c.signal("-TERM");
    assert!(c.wait().success());
    for seat in &wall.seats {
        eventually("a node that left", || standing(&seat.node, "c") == "left");
        eventually("hosts that went silent", || {
            assert!(!is_partial(&seat.node));
            let shown = host(&seat.node, "quiet-1").unwrap();
            assert_eq!(shown["host"]["cause"], Value::Null);
            shown["host"]["state"] == "down"
        });
    }
}
