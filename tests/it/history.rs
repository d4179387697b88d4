//! What was accepted is there again, whatever ended the node in between.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Node, eventually};

/// A killed node may lose what it accepted this short before.
const LOSS_MAX: Duration = Duration::from_millis(250);

/// A directory of a test's own, gone when it ends.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("tidewall-it-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Scratch(dir)
    }

    pub(crate) fn start(&self) -> Node {
        Node::start(&["--history", &format!("sqlite:{}", self.0.display())])
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn journal(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.0.join("journal")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    since.as_millis() as i64
}

/// The values that history has of a host's metric, in order of time.
fn values(node: &Node, host: &str, metric: &str, from_ms: i64) -> Vec<f64> {
    let mut found = Vec::new();
    read(node, host, metric, (from_ms, now_ms() + 1_000), &mut found);
    found
}

/// In as many parts as it takes.
fn read(node: &Node, host: &str, metric: &str, (from, to): (i64, i64), found: &mut Vec<f64>) {
    let query = format!("metric={metric}&host={host}&from={from}&to={to}&step=0");
    let answer = node.get(&format!("/api/history?{query}"));
    if answer.status == 404 {
        return;
    }
    if answer.body.contains("too many points") {
        let middle = from.midpoint(to);
        read(node, host, metric, (from, middle), found);
        return read(node, host, metric, (middle, to), found);
    }
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let points = body["points"].as_array().unwrap();
    found.extend(points.iter().map(|point| point[1].as_f64().unwrap()));
}

/// Runs of a test that repeats: few where it runs with all others, as many as
/// `TIDEWALL_HISTORY_RUNS` says where it is measured.
fn runs(few: u64) -> u64 {
    let asked = std::env::var("TIDEWALL_HISTORY_RUNS").ok();
    asked.map_or(few, |runs| runs.parse().unwrap())
}

/// Posts ascending values until the connection breaks; when each was answered.
fn post_until_cut(node: &Node, host: &str, durable: bool, sent: &Mutex<Vec<Instant>>) {
    let mut http = node.connect();
    let target = if durable { "?ack=durable" } else { "" };
    for value in 0.. {
        // Ten thousand a second at most: a block of a minute holds 65,535 points.
        if value % 10 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Now and then one of a minute that is over: it is stored while others are written.
        let time_ms = now_ms() - if value % 7 == 0 { 120_000 } else { 0 };
        let body = format!(r#"{{"host":"{host}","time":{time_ms},"metrics":{{"v":{value}}}}}"#);
        let length = body.len();
        let head = format!("POST /api/metrics{target} HTTP/1.1\r\nHost: x\r\n");
        match http.ask(&format!("{head}Content-Length: {length}\r\n\r\n{body}")) {
            Some(answer) if answer.status == 201 => sent.lock().unwrap().push(Instant::now()),
            Some(answer) => panic!("{answer:?}"),
            None => return,
        }
    }
}

/// What came back of a host's values, of which `sent` were acknowledged: each once, none made up.
fn came_back(node: &Node, host: &str, begun_ms: i64, sent: usize) -> BTreeSet<usize> {
    let found = values(node, host, "v", begun_ms);
    let set: BTreeSet<usize> = found.iter().map(|&value| value as usize).collect();
    assert_eq!(set.len(), found.len(), "a sample of {host} is there twice");
    // One more may have been on its way.
    assert!(
        set.last().is_none_or(|&last| last <= sent),
        "a sample of {host} was never sent"
    );
    set
}

/// Kills a node again and again while it takes samples.
fn killed(durable: bool) {
    let scratch = Scratch::new(if durable { "kill-durable" } else { "kill" });
    let begun_ms = now_ms() - 180_000;
    let (mut worst, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let mut kept: Vec<BTreeSet<usize>> = Vec::new();
    let mut node = scratch.start();
    let runs = runs(6);
    for run in 0..runs {
        let (host, sent) = (format!("k-{run}"), Mutex::new(Vec::new()));
        let most = if runs < 20 { 1_500 } else { 2_500 };
        let killed_at = std::thread::scope(|scope| {
            scope.spawn(|| post_until_cut(&node, &host, durable, &sent));
            std::thread::sleep(Duration::from_millis(60 + run * 7_919 % most));
            let at = Instant::now();
            node.signal("-KILL");
            at
        });
        node.wait();
        let begun = Instant::now();
        node = scratch.start();
        slowest = slowest.max(begun.elapsed());
        let sent = sent.into_inner().unwrap();
        let found = came_back(&node, &host, begun_ms, sent.len());
        for (value, &at) in sent
            .iter()
            .enumerate()
            .filter(|(value, _)| !found.contains(value))
        {
            let before = killed_at.saturating_duration_since(at);
            worst = worst.max(before);
            assert!(!durable, "{value} was acknowledged as durable");
            assert!(
                before <= LOSS_MAX,
                "{value} was acknowledged {before:?} before the kill"
            );
        }
        kept.push(found);
    }
    for (run, found) in kept.iter().enumerate() {
        let again = came_back(&node, &format!("k-{run}"), begun_ms, usize::MAX);
        assert_eq!(
            &again, found,
            "later kills changed what was kept of k-{run}"
        );
    }
    eprintln!(
        "{runs} kills, durable {durable}: {} samples kept, lost at most the last {worst:?}, \
         start-up at most {slowest:?}",
        kept.iter().map(BTreeSet::len).sum::<usize>()
    );
}

#[test]
fn a_kill_loses_a_quarter_of_a_second_at_most() {
    killed(false);
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged_as_durable() {
    killed(true);
}

#[test]
fn an_ordered_stop_loses_nothing() {
    let scratch = Scratch::new("stop");
    let begun_ms = now_ms();
    let mut sent = Vec::new();
    for run in 0..3 {
        let mut node = scratch.start();
        let mut http = node.connect();
        for value in 0..200 {
            let value = f64::from(run * 1_000 + value) / 8.0;
            let body = format!(r#"[{{"host":"s","metrics":{{"v":{value},"w":{value}}}}}]"#);
            assert_eq!(http.post(&body).unwrap().status, 201);
            sent.push(value);
        }
        node.signal("-TERM");
        assert!(node.wait().success());
    }
    let node = scratch.start();
    for metric in ["v", "w"] {
        assert_eq!(values(&node, "s", metric, begun_ms), sent);
    }
    assert_eq!(node.metric("tidewall_history_replayed_total"), 1_200);
}

#[test]
fn the_books_have_history_s_line_too() {
    let scratch = Scratch::new("books");
    let node = scratch.start();
    let mut http = node.connect();
    let old_ms = now_ms() - 3 * 60_000;
    let ancient_ms = now_ms() - 40 * 86_400_000;
    for time_ms in [old_ms, old_ms + 1, ancient_ms, now_ms()] {
        let docs: Vec<String> = (0..50)
            .map(|host| format!(r#"{{"host":"b-{host}","time":{time_ms},"metrics":{{"v":1.5}}}}"#))
            .collect();
        let answer = http.post(&format!("[{}]", docs.join(","))).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    eventually("the store", || {
        node.metric("tidewall_samples_persisted_total") == 100
    });
    assert_eq!(node.metric("tidewall_history_rows_total"), 50);
    eventually("the books", || {
        node.metric("tidewall_history_pending") == 50
    });
    assert_eq!(node.metric("tidewall_history_dropped_total"), 50, "too old");
    assert_eq!(node.metric("tidewall_samples_aggregated_total"), 200);
    // From the store, and from memory.
    assert_eq!(values(&node, "b-7", "v", old_ms - 1), [1.5; 3]);
    let fleet = node.get(&format!(
        "/api/history?metric=v&from={old_ms}&stat=count&step=60000"
    ));
    let fleet: Value = serde_json::from_str(&fleet.body).unwrap();
    let counts: Vec<&Value> = fleet["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p[1])
        .collect();
    let hosts = counts.iter().filter(|count| ***count == 50.0).count();
    assert_eq!(
        (hosts, counts.len() - hosts),
        (2, counts.len() - 2),
        "{counts:?}"
    );
}

/// A document may ask by a field of its own; its acknowledgement comes later than others, in order.
#[test]
fn a_stream_s_document_can_ask_for_the_disk() {
    let scratch = Scratch::new("stream");
    let node = scratch.start();
    let mut stream = node.web_socket("/api/metrics", None);
    for seq in 0..20 {
        let ack = if seq % 2 == 0 {
            r#""ack":"durable","#
        } else {
            ""
        };
        stream.say(&format!(
            r#"{{"host":"w",{ack}"seq":{seq},"metrics":{{"v":{seq}}}}}"#
        ));
    }
    let mut acks: Vec<u64> = (0..20)
        .map(|_| stream.next_json()["ack_seq"].as_u64().unwrap())
        .collect();
    let durable: Vec<u64> = acks.iter().copied().filter(|seq| seq % 2 == 0).collect();
    assert!(durable.is_sorted(), "{acks:?}");
    acks.sort_unstable();
    assert!(acks.into_iter().eq(0..20));
    // What is on the disk is there after a kill at once.
    drop(node);
    let node = scratch.start();
    let found = values(&node, "w", "v", now_ms() - 60_000);
    assert!(
        found.iter().filter(|value| *value % 2.0 == 0.0).count() == 10,
        "{found:?}"
    );
    let none = Node::start(&[]);
    let mut stream = none.web_socket("/api/metrics", None);
    stream.say(r#"{"host":"w","ack":"durable","seq":7,"metrics":{"v":1}}"#);
    let refused = stream.next_json();
    assert_eq!(
        (&refused["reason"], &refused["seq"]),
        (&"not_durable".into(), &7.into())
    );
}

/// A sender whose clock is an hour slow says when it sent: its samples lie where they belong.
#[test]
fn a_wrong_clock_that_shows_itself_is_set_right() {
    let scratch = Scratch::new("skew");
    let node = scratch.start();
    let slow_ms = now_ms() - 3_600_000;
    for (host, sent_at) in [("right", now_ms()), ("slow", slow_ms)] {
        let body = format!(
            r#"{{"host":"{host}","time":{},"sent_at":{sent_at},"metrics":{{"v":1}}}}"#,
            sent_at - 5_000
        );
        assert_eq!(node.connect().post(&body).unwrap().status, 201);
    }
    eventually("both", || {
        ["right", "slow"]
            .iter()
            .all(|host| values(&node, host, "v", now_ms() - 20_000).len() == 1)
    });
    assert_eq!(
        values(&node, "slow", "v", slow_ms - 60_000).len(),
        1,
        "it is there once"
    );
}

#[test]
fn questions_without_an_answer_hear_why() {
    let scratch = Scratch::new("questions");
    let node = scratch.start();
    assert_eq!(
        node.connect()
            .post(r#"{"host":"q","metrics":{"v":1}}"#)
            .unwrap()
            .status,
        201
    );
    eventually("the sample", || {
        !values(&node, "q", "v", 0.max(now_ms() - 60_000)).is_empty()
    });
    for (query, status, words) in [
        ("metric=v&host=q", 200, "\"points\""),
        ("metric=v&host=nobody", 404, "unknown_host"),
        ("metric=nothing", 404, "unknown_metric"),
        ("host=q", 400, "`metric`"),
        ("metric=v&step=7", 400, "`step`"),
    ] {
        let answer = node.get(&format!("/api/history?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
    }
    let none = Node::start(&[]);
    let answer = none.get("/api/history?metric=v");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("no_history"), "{}", answer.body);
    let post = "POST /api/metrics?ack=durable HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]";
    let answer = none.connect().ask(post).unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("not_durable"), "{}", answer.body);
}

/// Damage of any byte costs a record or the rest of its segment, is told, and is never a wrong
/// value.
#[test]
fn a_damaged_journal_is_read_as_far_as_it_is_whole() {
    let scratch = Scratch::new("damage");
    let begun_ms = now_ms();
    let mut node = scratch.start();
    let mut http = node.connect();
    for value in 0..400 {
        let body = format!(r#"{{"host":"d","metrics":{{"v":{value}}}}}"#);
        assert_eq!(http.post(&body).unwrap().status, 201);
        std::thread::sleep(Duration::from_millis(1));
    }
    node.signal("-TERM");
    assert!(node.wait().success());
    let path = scratch.journal().remove(0);
    let whole = std::fs::read(&path).unwrap();
    let mut fewest = 400;
    for run in 0..runs(8) {
        // The head's number is not used; all behind it is.
        let at = 8 + (run as usize * 7_919 + 13) % (whole.len() - 8);
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (run % 8);
        clear_journal(&scratch);
        std::fs::write(&path, &damaged).unwrap();
        let mut node = scratch.start();
        let found = values(&node, "d", "v", begun_ms);
        let told = node.metric("tidewall_history_damaged_records_total")
            + node.metric("tidewall_history_cut_bytes_total");
        assert!(0 < told, "byte {at}");
        assert!(found.len() < 400, "byte {at}");
        assert!(
            found.windows(2).all(|pair| pair[0] < pair[1]),
            "byte {at}: {found:?}"
        );
        assert!(
            found
                .iter()
                .all(|value| value.fract() == 0.0 && *value < 400.0)
        );
        assert_eq!(
            node.connect()
                .post(r#"{"host":"e","metrics":{"v":1}}"#)
                .unwrap()
                .status,
            201
        );
        fewest = fewest.min(found.len());
        node.signal("-KILL");
        node.wait();
    }
    eprintln!("of 400 samples at least {fewest} came back from a journal with a damaged bit");
}

fn clear_journal(scratch: &Scratch) {
    for path in scratch.journal() {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_directory_that_cannot_be_used_does_not_stop_the_wall() {
    let node = Node::start_unready(&["--history", "sqlite:/proc/none"]);
    assert_eq!(
        node.connect()
            .post(r#"{"host":"a","metrics":{"v":1}}"#)
            .unwrap()
            .status,
        201
    );
    eventually("the wall", || {
        node.get("/api/snapshot?kind=host&host=a").status == 200
    });
    assert_eq!(node.get("/readyz").status, 503);
    eventually("the wall to say so", || {
        node.snapshot("")["flags"][0] == "degraded"
    });
    eventually("the count", || {
        node.metric("tidewall_history_dropped_total") == 1
    });
    let scratch = Scratch::new("taken");
    let first = scratch.start();
    eventually("no flag", || {
        first.snapshot("")["flags"].as_array().unwrap().is_empty()
    });
    let second = Command::new(crate::support::binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--history"])
        .arg(format!("sqlite:{}", scratch.0.display()))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(2));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another process"), "{said}");
}

#[test]
fn verify_finds_what_is_wrong() {
    let scratch = Scratch::new("verify");
    let mut node = scratch.start();
    let time_ms = now_ms() - 120_000;
    let body = format!(r#"{{"host":"v","time":{time_ms},"metrics":{{"v":1.25}}}}"#);
    assert_eq!(node.connect().post(&body).unwrap().status, 201);
    eventually("the store", || {
        node.metric("tidewall_samples_persisted_total") == 1
    });
    let verify = |dir: &Path| {
        let output = Command::new(crate::support::binary())
            .arg("verify")
            .arg(dir)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    };
    assert!(verify(&scratch.0).1.contains("in use"));
    node.signal("-TERM");
    node.wait();
    let (code, said) = verify(&scratch.0);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 days: 1 rows, 1 points"), "{said}");
    let segment = scratch.journal().remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&segment, bytes).unwrap();
    let (code, said) = verify(&scratch.0);
    assert_eq!(code, Some(1));
    assert!(said.contains("cut off"), "{said}");
}

/// A node whose history lies on a disk of a few megabytes, in a mount namespace of its own.
fn on_a_small_disk(dir: &Path, size: &str) -> Node {
    std::fs::create_dir_all(dir).unwrap();
    let mut command = Command::new("unshare");
    // Root of its own user namespace may mount there; root outside needs none.
    let is_root = rustix::process::getuid().is_root();
    command
        .arg(if is_root { "-m" } else { "-rm" })
        .args(["sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o size={size} tmpfs {dir} && exec {binary} \"$@\"",
            dir = dir.display(),
            binary = crate::support::binary().display()
        ));
    command.arg("sh");
    Node::start_by(
        command,
        &["--history", &format!("sqlite:{}", dir.display())],
    )
}

/// Posts batches of 2,000 samples of a day that is over, in no pattern that compresses.
fn fill(node: &Node, batches: std::ops::Range<u32>, days_ago: i64) -> u64 {
    let mut http = node.connect();
    let begin_ms = now_ms() - days_ago * 86_400_000;
    for batch in batches.clone() {
        let docs: Vec<String> = (0..2_000)
            .map(|at| {
                let time_ms = begin_ms + i64::from(at) % 50 * 60_000;
                let value = f64::from((batch * 2_000 + at).wrapping_mul(2_654_435_761)) / 7.0;
                format!(
                    r#"{{"host":"f-{}","time":{time_ms},"metrics":{{"v":{value}}}}}"#,
                    at / 50
                )
            })
            .collect();
        let answer = http.post(&format!("[{}]", docs.join(","))).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    2_000 * batches.len() as u64
}

/// Old days go first, then what is new; the wall goes on, and all that is lost is counted.
#[test]
fn a_full_disk_stops_nothing_and_is_counted() {
    let scratch = Scratch::new("full");
    let node = on_a_small_disk(&scratch.0, "4m");
    let mut http = node.connect();
    let mut sent = fill(&node, 0..30, 3);
    let persisted = || node.metric("tidewall_samples_persisted_total");
    eventually("the first day", || persisted() == sent);
    sent += fill(&node, 30..130, 1);
    let settled = || persisted() + node.metric("tidewall_history_dropped_total");
    eventually("an end", || settled() == sent);
    let evicted = node.metric("tidewall_history_evicted_samples_total");
    assert_eq!(evicted, 60_000, "the older day made room");
    let lost = node.metric("tidewall_history_evicted_samples_total")
        + node.metric("tidewall_history_dropped_total")
        + node.metric("tidewall_history_unjournaled_total");
    assert!(0 < lost, "so much fits a small disk");
    assert_eq!(
        http.post(r#"{"host":"live","metrics":{"v":1}}"#)
            .unwrap()
            .status,
        201
    );
    eventually("the wall", || {
        node.get("/api/snapshot?kind=host&host=live").status == 200
    });
    eventually("memory", || {
        node.get("/api/history?metric=v&host=live").status == 200
    });
    let count = |name: &str| node.metric(&format!("tidewall_{name}"));
    eprintln!(
        "of {sent} samples {} stored, {} of them removed again, {} given up, {} in no journal",
        count("samples_persisted_total"),
        count("history_evicted_samples_total"),
        count("history_dropped_total"),
        count("history_unjournaled_total"),
    );
}
