//! The decoder once more, slow and plain, on top of `serde_json`: what the fast one is held
//! against by tests and fuzzing. Shares no code with it but the limits.

#![allow(
    clippy::unwrap_used,
    reason = "a broken belief is what this module is here to find"
)]

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fault::{Fault, FaultKind};
use super::{Batch, json, ndjson};
use crate::limits::{
    BATCH_SAMPLES_MAX, FUTURE_MS_MAX, HOST_BYTES_MAX, JSON_DEPTH_MAX, METRIC_BYTES_MAX,
    METRIC_LABELS_MAX, TAG_KEY_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_BYTES_MAX, TAGS_MAX,
    UNIT_BYTES_MAX,
};

/// A document with its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub host: String,
    pub time_ms: Option<i64>,
    pub sent_at: Option<i64>,
    pub seq: Option<u64>,
    pub tags: Vec<(String, String)>,
    pub samples: Vec<Measured>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    pub metric: String,
    pub unit: String,
    /// The f64's bits: -0 is not 0.
    pub bits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Syntax,
    /// A number no f64 holds: `serde_json` stops there, so what follows may be anything.
    Range,
    Other,
}

/// Checks that both decoders say the same of a body.
pub fn compare(body: &[u8], now_ms: i64, lines: bool) {
    let mut batch = Batch::new();
    let (decoded, expected) = if lines {
        (
            ndjson::decode(body, now_ms, &mut batch),
            decode_lines(body, now_ms),
        )
    } else {
        (json::decode(body, now_ms, &mut batch), decode(body, now_ms))
    };
    let shown = String::from_utf8_lossy(body);
    match (&decoded, &expected) {
        (Ok(()), Ok(expected)) => assert_eq!(&contents(&batch, body), expected, "{shown}"),
        (Err(fault), Err(refusal)) => check_fault(fault, *refusal, body),
        _ => panic!("{shown:?}: {decoded:?}, expected {expected:?}"),
    }
    if decoded.is_err() {
        assert!(batch.docs().is_empty() && batch.samples() == 0, "{shown:?}");
    }
}

fn check_fault(fault: &Fault, refusal: Refusal, body: &[u8]) {
    let shown = String::from_utf8_lossy(body);
    let syntax = fault.kind() == FaultKind::Syntax;
    assert!(
        refusal == Refusal::Range || syntax == (refusal == Refusal::Syntax),
        "{shown:?}: {fault}"
    );
    assert!(
        fault.at() <= body.len() && !fault.to_string().contains('\n'),
        "{shown:?}: {fault}"
    );
}

/// What a batch holds, with texts.
pub fn contents(batch: &Batch, body: &[u8]) -> Vec<Document> {
    let texts = batch.texts(body);
    let document = |doc: &super::Doc| Document {
        host: texts.get(doc.host).into(),
        time_ms: doc.time_ms,
        sent_at: doc.sent_at,
        seq: doc.seq,
        tags: texts
            .tags(doc)
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        samples: batch
            .points(doc)
            .iter()
            .map(|point| Measured {
                metric: batch.text(body, point.metric).into(),
                unit: texts.get(point.unit).into(),
                bits: point.value.to_bits(),
            })
            .collect(),
    };
    batch.docs().iter().map(document).collect()
}

type Result<T> = std::result::Result<T, Refusal>;

pub fn decode(body: &[u8], now_ms: i64) -> Result<Vec<Document>> {
    let documents = match parse(body)? {
        Tree::Array(documents) => documents,
        document => vec![document],
    };
    collect(documents, now_ms)
}

pub fn decode_lines(body: &[u8], now_ms: i64) -> Result<Vec<Document>> {
    let blank = |line: &&[u8]| line.iter().all(|byte| b" \t\r".contains(byte));
    let lines = body
        .split(|&byte| byte == b'\n')
        .filter(|line| !blank(line));
    let trees: Vec<Result<Tree>> = lines.map(parse).collect();
    for refusal in [Refusal::Range, Refusal::Syntax] {
        if trees
            .iter()
            .any(|tree| matches!(tree, Err(found) if *found == refusal))
        {
            return Err(refusal);
        }
    }
    collect(
        trees.into_iter().map(|tree| tree.unwrap()).collect(),
        now_ms,
    )
}

fn collect(trees: Vec<Tree>, now_ms: i64) -> Result<Vec<Document>> {
    let documents: Vec<Document> = trees
        .into_iter()
        .map(|tree| document(tree, now_ms))
        .collect::<Result<_>>()?;
    let samples: usize = documents
        .iter()
        .map(|document| document.samples.len())
        .sum();
    must(!documents.is_empty() && samples <= BATCH_SAMPLES_MAX)?;
    Ok(documents)
}

fn parse(body: &[u8]) -> Result<Tree> {
    let tree: Tree = serde_json::from_slice(body).map_err(|error| {
        match error.to_string().contains("number out of range") {
            true => Refusal::Range,
            false => Refusal::Syntax,
        }
    })?;
    if tree.depth() > JSON_DEPTH_MAX {
        return Err(Refusal::Syntax);
    }
    Ok(tree)
}

fn must(condition: bool) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(Refusal::Other)
    }
}

fn document(tree: Tree, now_ms: i64) -> Result<Document> {
    let mut members = unique(tree)?;
    let mut take = |keys: &[&str]| -> Result<Option<(String, Tree)>> {
        let is_key = |(key, _): &(String, Tree)| keys.contains(&key.as_str());
        let found = members.iter().position(is_key).map(|at| members.remove(at));
        must(!members.iter().any(is_key))?;
        Ok(found)
    };
    let (host_key, host) =
        take(&["host", "server", "server_name", "server_id"])?.ok_or(Refusal::Other)?;
    let host = match host {
        Tree::Unsigned(id) if host_key == "server_id" => id.to_string(),
        Tree::Signed(id) if host_key == "server_id" => id.to_string(),
        host => host.text()?,
    };
    name(&host, 1, HOST_BYTES_MAX)?;
    let time_ms = milliseconds(take(&["time", "timestamp"])?)?;
    must(time_ms.is_none_or(|time| time <= now_ms + FUTURE_MS_MAX))?;
    let sent_at = milliseconds(take(&["sent_at"])?)?;
    let seq = take(&["seq"])?.map(|(_, tree)| tree.whole()).transpose()?;
    let ack = take(&["ack"])?.map(|(_, tree)| tree.text()).transpose()?;
    must(ack.is_none_or(|ack| ack == "durable"))?;
    let tags = take(&["tags"])?.map_or(Ok(vec![]), |(_, tree)| tags(tree))?;
    let unit = take(&["unit"])?;
    let metrics = take(&["metrics"])?;
    let metric = take(&["metric_type"])?;
    let value = take(&["value"])?;
    let samples = match (metrics, metric, value, unit) {
        (Some((_, metrics)), None, None, None) if members.is_empty() => {
            measured(unique(metrics)?, "")?
        }
        (None, Some((_, metric)), Some((_, value)), unit) if members.is_empty() => {
            let unit = unit.map_or(Ok(String::new()), |(_, unit)| unit.text())?;
            name(&unit, 0, UNIT_BYTES_MAX)?;
            measured(vec![(metric.text()?, value)], &unit)?
        }
        (None, None, None, None) => measured(members, "")?,
        _ => return Err(Refusal::Other),
    };
    must(!samples.is_empty())?;
    Ok(Document {
        host,
        time_ms,
        sent_at,
        seq,
        tags,
        samples,
    })
}

/// An object's members, no key twice.
fn unique(tree: Tree) -> Result<Vec<(String, Tree)>> {
    let Tree::Object(members) = tree else {
        return Err(Refusal::Other);
    };
    let mut keys = BTreeSet::new();
    must(members.iter().all(|(key, _)| keys.insert(key)))?;
    Ok(members)
}

fn measured(members: Vec<(String, Tree)>, unit: &str) -> Result<Vec<Measured>> {
    let measured = |(metric, value): (String, Tree)| {
        metric_name(&metric)?;
        let bits = value.number()?.to_bits();
        Ok(Measured {
            metric,
            unit: unit.into(),
            bits,
        })
    };
    members.into_iter().map(measured).collect()
}

fn tags(tree: Tree) -> Result<Vec<(String, String)>> {
    let members = unique(tree)?;
    must(members.len() <= TAGS_MAX)?;
    let tag = |(key, value): (String, Tree)| {
        let value = value.text()?;
        name(&key, 1, TAG_KEY_BYTES_MAX)?;
        name(&value, 0, TAG_VALUE_BYTES_MAX)?;
        Ok((key, value))
    };
    let tags: Vec<_> = members.into_iter().map(tag).collect::<Result<_>>()?;
    let bytes: usize = tags
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    must(bytes <= TAGS_BYTES_MAX)?;
    Ok(tags)
}

fn milliseconds(member: Option<(String, Tree)>) -> Result<Option<i64>> {
    let Some((_, tree)) = member else {
        return Ok(None);
    };
    i64::try_from(tree.whole()?)
        .map(Some)
        .map_err(|_| Refusal::Other)
}

fn name(text: &str, min: usize, max: usize) -> Result<()> {
    must((min..=max).contains(&text.len()) && !text.chars().any(char::is_control))
}

fn metric_name(text: &str) -> Result<()> {
    name(text, 1, METRIC_BYTES_MAX)?;
    let Some((name, labels)) = text.split_once('{') else {
        return must(!text.contains('}'));
    };
    let labels = labels.strip_suffix('}').ok_or(Refusal::Other)?;
    must(!name.is_empty() && !name.contains('}') && !labels.contains(['{', '}']))?;
    let mut keys = BTreeSet::new();
    for label in labels.split(',') {
        let (key, value) = label.split_once('=').ok_or(Refusal::Other)?;
        must(!key.is_empty() && !value.is_empty() && keys.insert(key))?;
    }
    must(keys.len() <= METRIC_LABELS_MAX)
}

/// JSON as it was written: keys in order, twice where they come twice.
#[derive(Clone, Debug)]
enum Tree {
    Other,
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    String(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Tree::depth).max().unwrap_or(0),
            Self::Object(members) => {
                1 + members
                    .iter()
                    .map(|(_, tree)| tree.depth())
                    .max()
                    .unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn text(self) -> Result<String> {
        match self {
            Self::String(text) => Ok(text),
            _ => Err(Refusal::Other),
        }
    }

    fn number(&self) -> Result<f64> {
        match *self {
            Self::Unsigned(value) => Ok(value as f64),
            Self::Signed(value) => Ok(value as f64),
            Self::Float(value) => Ok(value),
            _ => Err(Refusal::Other),
        }
    }

    fn whole(&self) -> Result<u64> {
        if let Self::Unsigned(value) = *self {
            return Ok(value);
        }
        let value = self.number()?;
        must(value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value))?;
        Ok(value as u64)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Tree, E> {
        Ok(Tree::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Tree, E> {
        Ok(Tree::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Tree, E> {
        Ok(Tree::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}
