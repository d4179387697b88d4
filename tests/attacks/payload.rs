//! Payloads: bombs of every compression, numbers and nesting without end, names by the million.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::peer::Peer;
use crate::siege::{Field, MIB, PLAN, Plan, besiege, besiege_node, start};
use crate::support::{Node, PATIENCE, eventually};

/// One POST on a connection of its own; gives the verdict.
fn post(node: &Node, fields: &str, body: &[u8]) -> String {
    let mut peer = Peer::connect(node).unwrap();
    // A node that is busy with another bomb is not stuck.
    let _ = peer.stream.set_write_timeout(Some(PATIENCE));
    let length = body.len();
    let head = format!(
        "POST /api/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\
         Content-Length: {length}\r\n\r\n"
    );
    peer.say(&[head.as_bytes(), body].concat());
    peer.listen_to_the_end();
    peer.verdict()
}

/// A body with its `Content-Encoding`, and what it must be answered.
type Bomb = (&'static str, Vec<u8>, &'static str);

/// Posts each body in turn, all of them once at least.
fn post_all(field: &Field<'_>, number: usize, bombs: &[Bomb]) {
    let turns = bombs.iter().enumerate().cycle().skip(number * 3);
    for (turn, (at, (fields, body, expected))) in turns.enumerate() {
        if bombs.len() <= turn && !field.goes_on() {
            return;
        }
        let met = post(field.node, fields, body);
        let as_stated = met == *expected;
        field.meets(if as_stated {
            met
        } else {
            format!("body {at}: {met}")
        });
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 19).unwrap()
}

/// A frame whose header asks for a window of 2 GiB (RFC 8878 section 3.1.1.1.2).
fn zstd_with_a_huge_window() -> Vec<u8> {
    let exponent: u8 = 31 - 10;
    let mut frame = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&[0x00, exponent << 3]);
    // One last RLE block of 128 KiB.
    let block: u32 = 1 | 1 << 1 | (128 * 1024) << 3;
    frame.extend_from_slice(&block.to_le_bytes()[..3]);
    frame.push(b' ');
    frame
}

#[test]
fn compression_bombs() {
    let plan = Plan {
        name: "gzip and zstd bombs",
        // A core inflates one body at a time: 32 MiB at most, twice while its buffer grows.
        growth_max: 2 * 2 * 32 * MIB + 16 * MIB,
        answers: &[
            "413 body_too_large",
            "400 json_syntax",
            "400 bad_compression",
        ],
        counter: "tidewall_samples_rejected_total{protocol=\"http1\",reason=\"body_too_large\"}",
        ..PLAN
    };
    let blank = vec![b' '; 40 << 20];
    let (gz, zs) = ("Content-Encoding: gzip\r\n", "Content-Encoding: zstd\r\n");
    // Noise keeps the ratio under the limit, so that only the size ends it.
    let mut noise = vec![0; 400 << 10];
    let mut random = crate::support::Random(1);
    noise.fill_with(|| random.next().to_le_bytes()[0]);
    let padded = [&noise[..], &blank[..]].concat();
    let big = "413 body_too_large";
    let bombs = [
        (gz, gzip(&blank), big),
        (zs, zstd(&blank), big),
        (gz, gzip(&padded), big),
        (zs, zstd(&padded), big),
        (zs, zstd_with_a_huge_window(), big),
        (gz, gzip(b"").repeat(1_000), big),
        (zs, zstd(b"").repeat(1_000), big),
        // Within every bound, and nonsense: costs what it may cost.
        (gz, gzip(&padded[..30 << 20]), "400 json_syntax"),
        (gz, gzip(&padded)[..100_000].to_vec(), "400 bad_compression"),
        (zs, b"no zstd".to_vec(), "400 bad_compression"),
    ];
    besiege(&plan, |field, number| post_all(field, number, &bombs));
}

#[test]
fn json_bombs() {
    let plan = Plan {
        name: "JSON: depth, numbers, keys, strings",
        answers: &[
            "400 json_syntax",
            "422 shape",
            "413 too_many_samples",
            "413 body_too_large",
            "201",
        ],
        // Bodies of 8 MiB from four attackers, in buffers up to twice that.
        growth_max: 4 * 2 * 8 * MIB + 32 * MIB,
        counter: "tidewall_samples_rejected_total",
        ..PLAN
    };
    let single = |value: &str| format!(r#"{{"host":"a","metric_type":"m","value":{value}}}"#);
    let full = |inner: &str| format!(r#"{{"host":"a","metrics":{{{inner}}}}}"#);
    let many = |count: usize| {
        let one = r#"{"host":"a","metrics":{"m":1}},"#;
        format!("[{}", one.repeat(count))
            .trim_end_matches(',')
            .to_owned()
            + "]"
    };
    let (syntax, shape) = ("400 json_syntax", "422 shape");
    let bombs: Vec<Bomb> = [
        ("[".repeat(7 << 20), syntax),
        ("{\"a\":".repeat(1 << 20), syntax),
        (
            format!(
                r#"{{"host":"a","x":{}1{}}}"#,
                "[".repeat(1000),
                "]".repeat(1000)
            ),
            syntax,
        ),
        (single("1e999"), shape),
        (single("-1e999"), shape),
        (single("NaN"), syntax),
        (single("Infinity"), syntax),
        (single(&"9".repeat(1 << 20)), shape),
        (single(&format!("0.{}", "1".repeat(1 << 20))), "201"),
        (single(&format!("1e{}", "9".repeat(1 << 20))), shape),
        (single("1e-99999999999999999999x"), syntax),
        (single("0x10"), syntax),
        (full(&format!("\"{}\":1", "k".repeat(257))), shape),
        (full(&format!("\"{}\":1", "\\u0041".repeat(1 << 20))), shape),
        (
            format!(r#"{{"host":"{}","metrics":{{"m":1}}}}"#, "h".repeat(254)),
            shape,
        ),
        (
            format!(
                r#"{{"host":"a",{}"metrics":{{}}}}"#,
                r#""host":"a","#.repeat(100_000)
            ),
            shape,
        ),
        (many(65_537), "413 too_many_samples"),
        (" ".repeat((8 << 20) + 1), "413 body_too_large"),
        ("\u{0}".repeat(1 << 20), syntax),
    ]
    .into_iter()
    .map(|(body, expected)| ("", body.into_bytes(), expected))
    .collect();
    besiege(&plan, |field, number| post_all(field, number, &bombs));
}

/// A host, a column and a series for every sample: tables fill up to their bounds, what does not
/// fit is folded, and who was there before stays.
#[test]
fn cardinality_explosion() {
    let plan = Plan {
        name: "Cardinality: hosts, columns and series without end",
        seconds_min: 6,
        // 65,536 hosts, a million series, of which a sparse one costs 48 B, and names of 200 B in
        // the catalog, on two cores, in the aggregator and in the host table.
        growth_max: 192 * MIB,
        // None of it goes before FORGET_AFTER.
        kept_max: 192 * MIB,
        answers: &["201"],
        counter: "tidewall_samples_accepted_total",
        also: &["503 ring_full"],
        ..PLAN
    };
    let next = AtomicUsize::new(0);
    let node = start(&plan);
    eventually("an early host", || {
        post(&node, "", br#"{"host":"early","metrics":{"honest":1}}"#) == "201"
    });
    besiege_node(&node, &plan, |field, number| {
        let pad = "x".repeat(180);
        while field.goes_on() {
            let batch = next.fetch_add(1, Relaxed);
            let docs = (0..1_000).map(|at| {
                let id = batch * 1_000 + at;
                match (number + batch) % 4 {
                    0 | 1 => format!(r#"{{"host":"host-{id}-{pad}","metrics":{{"m":1}}}}"#),
                    2 => format!(r#"{{"host":"wide-{at}","metrics":{{"c{id}-{pad}":1}}}}"#),
                    _ => {
                        let (host, column) = (id * 7 % 60_000, id % 4_000);
                        format!(r#"{{"host":"host-{host}-{pad}","metrics":{{"s{column}":1}}}}"#)
                    }
                }
            });
            let body = format!("[{}]", docs.collect::<Vec<_>>().join(","));
            field.meets(post(field.node, "", body.as_bytes()));
        }
    });
    let metrics = ["hosts", "columns", "series"].map(|what| {
        let value = node.metric(&format!("tidewall_{what}"));
        (what, value)
    });
    eprintln!("after the explosion: {metrics:?}");
    assert!(metrics[0].1 <= 65_537 && metrics[1].1 <= 4_097 && metrics[2].1 <= 1_000_000);
    assert!(
        0 < node.metric("tidewall_columns_folded_total"),
        "no column was folded"
    );
    assert_eq!(node.get("/api/snapshot?kind=host&host=early").status, 200);
    let offenders = node.get("/api/offenders").body;
    assert!(
        offenders.len() < 16 << 10,
        "offenders are a few: {}",
        offenders.len()
    );
}

/// CVE-2011-4885 and its kind: names that collide under the hashes people know.
#[test]
fn colliding_names() {
    let plan = Plan {
        name: "Colliding names",
        growth_max: 64 * MIB,
        kept_max: 64 * MIB,
        answers: &["201"],
        counter: "tidewall_samples_accepted_total",
        ..PLAN
    };
    besiege(&plan, |field, number| {
        while field.goes_on() {
            // `Aa` and `BB` are one under 31-based hashes: 2^11 names with one value.
            let name = |bits: usize| {
                let pair = |bit: usize| if bits >> bit & 1 == 0 { "Aa" } else { "BB" };
                (0..11).map(pair).collect::<String>()
            };
            let metrics = (0..2_048).map(|bits| format!(r#""{}":1"#, name(bits)));
            let metrics = metrics.collect::<Vec<_>>().join(",");
            let body = format!(r#"{{"host":"c{number}","metrics":{{{metrics}}}}}"#);
            field.meets(post(field.node, "", body.as_bytes()));
        }
    });
}

/// The host table at its largest, asked for by peers that do not read it.
#[test]
fn host_table_readers() {
    let plan = Plan {
        name: "Host table of 65,536 long names, not read",
        // New hosts are told of at 64 KiB a tick; until then each tick has a table of its own.
        flags: &["--tick", "10ms"],
        attackers: 40,
        seconds_min: 3,
        // One table of 14 MB, shared by all who ask, and its buffer while it is made. Forty copies
        // would be 560 MB.
        growth_max: 48 * MIB,
        kept_max: 16 * MIB,
        counter: "tidewall_requests_total",
        answers: &["not read"],
        ..PLAN
    };
    let node = start(&plan);
    for batch in 0..33 {
        let docs = (0..2_000).map(|at| {
            let (id, pad) = (batch * 2_000 + at, "x".repeat(200));
            format!(r#"{{"host":"{id}-{pad}","metrics":{{"m":1}}}}"#)
        });
        let body = format!("[{}]", docs.collect::<Vec<_>>().join(","));
        assert_eq!(post(&node, "", body.as_bytes()), "201");
    }
    let epoch = || node.get("/api/hosts").head;
    eventually("patches to have told of all hosts", || {
        let before = epoch();
        std::thread::sleep(std::time::Duration::from_millis(500));
        before.lines().find(|l| l.starts_with("ETag"))
            == epoch().lines().find(|l| l.starts_with("ETag"))
    });
    besiege_node(&node, &plan, |field, _| {
        let mut peer = Peer::deaf(field.node).unwrap();
        peer.say(b"GET /api/hosts HTTP/1.1\r\nHost: x\r\n\r\n");
        field.rest(std::time::Duration::from_secs(3600));
        field.meets("not read");
    });
}
