//! The decoder next to `serde_json` with derived types, which knows the one shape it is given and
//! checks neither names nor duplicate keys. Both sides read every name and value they decoded.
//!
//! `serde_json` is built with `float_roundtrip`, so that both give the same f64; the numbers here
//! take its fast path, which the feature leaves as it is.

#![allow(clippy::unwrap_used, reason = "the bodies are good")]

use std::fmt::{self, Write};
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use tidewall::decode::{Batch, json, ndjson};

const NOW_MS: i64 = 1_763_918_083_000;
const SINGLE: &str = r#"{"server_id":1,"metric_type":"cpu","value":53.2,"unit":"%"}"#;
const FLAT: &str = concat!(
    r#"{"server_name":"web-1","cpu_usage":41,"memory_usage":62,"#,
    r#""sent_at":1763918083000,"seq":7}"#
);
const FULL: &str = concat!(
    r#"{"host":"web-17.fra.example.net","time":1763918083000,"tags":{"dc":"fra","role":"web"},"#,
    r#""metrics":{"cpu":53.2,"mem.used":71.5,"load1":0.42,"load5":0.57,"load15":0.61,"#,
    r#""net.rx":182733,"net.tx":99120,"disk.used{device=sda}":71,"disk.used{device=sdb}":12.25,"#,
    r#""procs":312}}"#
);

#[derive(Deserialize)]
struct Single<'a> {
    server_id: u64,
    metric_type: &'a str,
    value: f64,
    unit: Option<&'a str>,
    time: Option<i64>,
    seq: Option<u64>,
}

impl Single<'_> {
    fn read(&self) -> f64 {
        let known = u64::from(self.time.is_some()) + self.seq.unwrap_or(0) + self.server_id;
        self.value + (self.metric_type.len() + self.unit.unwrap_or("").len()) as f64 + known as f64
    }
}

#[derive(Deserialize)]
struct Flat<'a> {
    server_name: &'a str,
    cpu_usage: f64,
    memory_usage: f64,
    sent_at: Option<i64>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Full<'a> {
    host: &'a str,
    time: Option<i64>,
    #[serde(borrow)]
    tags: Pairs<'a, &'a str>,
    #[serde(borrow)]
    metrics: Pairs<'a, f64>,
}

/// A map as it comes, without hashing: the least that `serde_json` can do.
struct Pairs<'a, V>(Vec<(&'a str, V)>);

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Pairs<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<'a, V>(std::marker::PhantomData<(&'a str, V)>);
        impl<'de: 'a, 'a, V: Deserialize<'de>> Visitor<'de> for Collect<'a, V> {
            type Value = Pairs<'a, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(16);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect(std::marker::PhantomData))
    }
}

fn read(batch: &Batch, body: &[u8]) -> f64 {
    let texts = batch.texts(body);
    let mut sum = 0.0;
    for doc in batch.docs() {
        sum += texts.get(doc.host).len() as f64;
        for point in batch.points(doc) {
            sum += point.value;
            sum += (texts.get(point.metric).len() + texts.get(point.unit).len()) as f64;
        }
        sum += texts
            .tags(doc)
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>() as f64;
    }
    sum
}

fn ours(batch: &mut Batch, body: &[u8]) -> f64 {
    json::decode(body, NOW_MS, batch).unwrap();
    read(batch, body)
}

fn group(
    criterion: &mut Criterion,
    name: &str,
    documents: usize,
    body: &str,
    theirs: impl Fn(&[u8]) -> f64,
) {
    let mut group = criterion.benchmark_group(format!("decode/{name}"));
    group.throughput(Throughput::ElementsAndBytes {
        elements: documents as u64,
        bytes: body.len() as u64,
    });
    let body = body.as_bytes();
    let mut batch = Batch::new();
    group.bench_function("ours", |b| b.iter(|| ours(&mut batch, black_box(body))));
    group.bench_function("serde_json", |b| b.iter(|| theirs(black_box(body))));
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    group(criterion, "single", 1, SINGLE, |body| {
        serde_json::from_slice::<Single<'_>>(body).unwrap().read()
    });
    group(criterion, "flat", 1, FLAT, |body| {
        let flat: Flat<'_> = serde_json::from_slice(body).unwrap();
        let extra = u64::from(flat.sent_at.is_some()) + flat.seq.unwrap_or(0);
        flat.cpu_usage + flat.memory_usage + flat.server_name.len() as f64 + extra as f64
    });
    group(criterion, "full", 1, FULL, |body| {
        let full: Full<'_> = serde_json::from_slice(body).unwrap();
        let metrics = full
            .metrics
            .0
            .iter()
            .map(|(name, value)| name.len() as f64 + value);
        let tags = full
            .tags
            .0
            .iter()
            .map(|(key, value)| key.len() + value.len());
        let names = full.host.len() + usize::from(full.time.is_some()) + tags.sum::<usize>();
        metrics.sum::<f64>() + names as f64
    });
    let mut array = String::from("[");
    let mut lines = String::new();
    for i in 0..1000 {
        let (value, comma) = (f64::from(i % 997) / 10.0, if i == 0 { "" } else { "," });
        let document =
            format!(r#"{{"server_id":{i},"metric_type":"cpu","value":{value},"unit":"%"}}"#);
        write!(array, "{comma}{document}").unwrap();
        lines.push_str(&document);
        lines.push('\n');
    }
    array.push(']');
    group(criterion, "array of 1000", 1000, &array, |body| {
        let singles: Vec<Single<'_>> = serde_json::from_slice(body).unwrap();
        singles.iter().map(Single::read).sum()
    });
    let mut batch = Batch::new();
    let mut group = criterion.benchmark_group("decode/lines, 1000");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("ours", |b| {
        b.iter(|| {
            let body = black_box(lines.as_bytes());
            ndjson::decode(body, NOW_MS, &mut batch).unwrap();
            read(&batch, body)
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
