//! Every kind of Redis joins nodes, walls are kept apart, and a node says what it does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::wall::{Wall, host, is_partial, join, nodes, standing};
use crate::history::Scratch;
use crate::redis_server::{RedisCluster, RedisServer};
use crate::support::{Node, binary, eventually};

fn await_each_other(a: &Node, b: &Node) {
    eventually("nodes that hear each other", || {
        standing(a, "b") == "reachable" && standing(b, "a") == "reachable"
    });
}

fn post(node: &Node, name: &str) {
    let body = format!(r#"{{"host":"{name}","metrics":{{"cpu":7}}}}"#);
    assert_eq!(node.connect().post(&body).unwrap().status, 201);
}

#[test]
fn a_cluster_of_redis_joins_nodes() {
    let mut cluster = RedisCluster::start();
    let url = cluster.url();
    for shard in &cluster.shards {
        shard.run("CONFIG SET cluster-require-full-coverage no");
    }
    let wall = Wall::start(&[("a", &url), ("b", &url), ("c", &url)]);
    wall.await_whole("start");
    let errors = |name: &str| wall.node(name).metric("tidewall_cluster_link_errors_total");
    // A shard that hangs, for those too who say nothing there.
    let before = ["a", "b", "c"].map(errors);
    cluster.shards[2].freeze();
    for (name, before) in ["a", "b", "c"].into_iter().zip(before) {
        eventually("a link that ends", || before < errors(name));
    }
    cluster.shards[2].thaw();
    wall.await_whole("a frozen shard");
    // The replica takes its place.
    cluster.shards[0].kill();
    eventually("nodes that miss each other", || {
        wall.seats.iter().all(|seat| is_partial(&seat.node))
    });
    wall.await_whole("a lost shard");
    wall.end();
}

#[test]
fn tls_a_user_with_few_rights_and_a_prefix_join_nodes() {
    let (server, port) = RedisServer::start_tls();
    // As docs/CLUSTER.md has it.
    server.run(
        "ACL SETUSER tide on >s3cret resetchannels ~{fleet:* &{fleet:* -@all +hello +select +set \
         +getrange +zadd +zrem +zremrangebyscore +zremrangebyrank +zrange +pexpire +time \
         +subscribe +publish",
    );
    let url = format!("rediss://tide:s3cret@localhost:{port}");
    let ca = server.folder().join("cert.pem");
    let ca = ca.to_str().unwrap();
    let flags = ["--redis-ca", ca, "--redis-prefix", "fleet", "--log", "info"];
    let mut a = join("a", &url, &flags);
    let b = join("b", &url, &flags);
    await_each_other(&a, &b);
    post(&a, "one");
    eventually("the host", || host(&b, "one").is_some());
    a.signal("-TERM");
    assert!(a.wait().success());
    eventually("a node that left", || standing(&b, "a") == "left");
    let said = a.last_words();
    assert!(said.contains("linked to other nodes"), "{said}");
    assert!(
        !said.contains("no link") && !said.contains("s3cret"),
        "{said}"
    );
}

#[test]
fn walls_of_another_prefix_or_key_see_nothing() {
    let folder = Scratch::new("apart");
    std::fs::create_dir_all(folder.path()).unwrap();
    let file = |name: &str, byte: u8| {
        let path = format!("{}/{name}", folder.path());
        std::fs::write(&path, [byte; 32]).unwrap();
        path
    };
    let (one, other) = (file("one", 1), file("other", 2));
    let server = RedisServer::start(&[]);
    let join = |name: &str, prefix: &str, key: &str| {
        let flags = ["--redis-prefix", prefix, "--cluster-key", key];
        join(name, &server.url(), &flags)
    };
    let (a, b) = (join("a", "wall", &one), join("b", "wall", &one));
    let strangers = [join("c", "hall", &one), join("d", "wall", &other)];
    await_each_other(&a, &b);
    post(&a, "one");
    eventually("the host", || host(&b, "one").is_some());
    let refused = |node: &Node| node.metric("tidewall_cluster_refused_total");
    eventually("messages of another key", || 5 < refused(&strangers[1]));
    assert_eq!(refused(&strangers[0]), 0);
    for stranger in &strangers {
        assert_eq!(host(stranger, "one"), None);
        assert_eq!(nodes(stranger)["peers"], serde_json::json!([]));
        eventually("a whole wall of its own", || !is_partial(stranger));
    }
}

/// What a node says on both streams, from its start to its ordered end.
fn words(flags: &[&str]) -> (String, String) {
    let mut child = Command::new(binary())
        .env("TIDEWALL_HISTORY", "none")
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            "1",
            "--no-pin",
        ])
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    while let Some(Ok(line)) = lines.next() {
        said += &line;
        said.push('\n');
        if line.starts_with("joins") {
            break;
        }
    }
    thread::sleep(Duration::from_millis(300));
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(&pid).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (said, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_node_says_whom_it_joins_and_what_is_unsafe() {
    let folder = Scratch::new("words");
    std::fs::create_dir_all(folder.path()).unwrap();
    let key = format!("{}/key", folder.path());
    std::fs::write(&key, [7; 32]).unwrap();
    let server = RedisServer::start(&[]);
    server.run("ACL SETUSER tide on >s3cret allchannels allkeys allcommands");
    let place = format!("127.0.0.1:{}", server.port());
    let url = format!("redis://tide:s3cret@{place}");
    let (said, warned) = words(&["--redis", &url, "--node", "wall-1"]);
    assert!(
        said.contains(&format!(
            "joins other nodes as wall-1 through redis://{place}\n"
        )),
        "{said}"
    );
    assert!(warned.contains("give --cluster-key"), "{warned}");
    assert!(!(said + &warned).contains("s3cret"));
    let (said, warned) = words(&["--redis", &url, "--cluster-key", &key]);
    let port = said.split_once(':').unwrap().1.split('/').nth(2).unwrap();
    let port = port.rsplit(':').next().unwrap();
    assert!(said.contains(&format!(":{port} through redis")), "{said}");
    assert_eq!(warned, "");
    let (_, warned) = words(&["--redis", "redis://127.0.0.1:1", "--cluster-key", &key]);
    assert!(warned.contains("no link to other nodes"), "{warned}");
    assert!(warned.contains("127.0.0.1:1 cannot be reached"), "{warned}");
    assert_eq!(warned.matches("no link").count(), 1, "{warned}");
}
