//! What a viewer should show and be told of a content, as PROTOCOL.md 2.3 and 2.4 have it.

use serde_json::{Map, Value, json};
use tidewall::frame::reader::Body;
use tidewall::frame::{Content, Host, Names, Stamp, State, Stats};

/// The picture in one that has been shown the content's frames.
pub fn check_picture(shown: &Body, content: &Content, stamp: &Stamp) {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    match (shown, content) {
        (
            Body::Map {
                lo,
                hi,
                values,
                states,
            },
            Content::Map(map),
        ) => {
            assert_eq!((*lo, *hi), (map.lo, map.hi));
            let places = map.values.iter().map(|value| place(*value, map.lo, map.hi));
            assert_eq!(values, &places.collect::<Vec<_>>());
            let expected = map.states.iter().map(|state| *state as u8);
            assert_eq!(states, &expected.collect::<Vec<_>>());
        }
        (Body::Lines { head, points }, Content::Lines(lines)) => {
            let name = lines
                .iter()
                .map(|l| json!({"expr": l.expr, "group": l.group}));
            let names = json!({"lines": name.collect::<Vec<_>>()});
            assert_eq!(parsed(head), names);
            let values: Vec<f32> = lines.iter().map(|line| line.value as f32).collect();
            assert_eq!(format!("{points:?}"), format!("{values:?}"));
        }
        (Body::Top { rows }, Content::Top(top)) => {
            assert_eq!(format!("{rows:?}"), format!("{:?}", top.rows));
        }
        (
            Body::Host {
                head,
                values,
                state,
                age_ms,
                interval_ms,
            },
            Content::Host(host),
        ) => {
            let metric = host
                .metrics
                .iter()
                .map(|m| json!({"name": m.name, "unit": m.unit}));
            let metrics: Vec<Value> = metric.collect();
            let tags = tags(host);
            let names =
                json!({"host": host.name, "slot": host.slot, "tags": tags, "metrics": metrics});
            let names = with_node(names, host);
            assert_eq!(parsed(head), names);
            let expected: Vec<f64> = host.metrics.iter().map(|metric| metric.value).collect();
            assert_eq!(format!("{values:?}"), format!("{expected:?}"));
            let times = [
                f64::from(host.state as u8),
                host.age_ms as f64,
                host.interval_ms as f64,
            ];
            assert_eq!([*state, *age_ms, *interval_ms], times);
        }
        (Body::Stats { json }, Content::Stats(stats)) => {
            assert_eq!(parsed(json), default_view(stats, stamp));
        }
        _ => panic!("a picture of another kind"),
    }
}

/// A value's byte in a map.
fn place(value: f64, lo: f64, hi: f64) -> u8 {
    let span = if lo < hi { hi - lo } else { 1.0 };
    match value {
        v if v.is_nan() => 255,
        v if v < lo => 253,
        v if v > hi => 254,
        v => ((v - lo) * 252.0 / span + 0.5).floor() as u8,
    }
}

/// A message of the text twin, but for a map's rows.
pub fn message(content: &Content, stamp: &Stamp, names: &dyn Names) -> Value {
    let mut message = match content {
        Content::Map(map) => {
            json!({"metric": map.metric, "unit": map.unit, "lo": map.lo, "hi": map.hi})
        }
        Content::Lines(lines) => {
            let line = lines
                .iter()
                .map(|l| json!({"expr": l.expr, "group": l.group, "value": l.value}));
            json!({"lines": line.collect::<Vec<_>>()})
        }
        Content::Top(top) => {
            let row = top
                .rows
                .iter()
                .map(|(slot, value)| json!([slot, names.host(*slot), value]));
            json!({"metric": top.metric, "unit": top.unit, "rows": row.collect::<Vec<_>>()})
        }
        Content::Host(host) => json!({"host": whole_host(host)}),
        Content::Stats(stats) => json!({"stats": default_view(stats, stamp)}),
    };
    message["time"] = stamp.time_ms.into();
    message["epoch"] = stamp.host_epoch.into();
    message["flags"] = flags(stamp.flags);
    message["kind"] = content.kind().into();
    message
}

fn whole_host(host: &Host) -> Value {
    let metric = host.metrics.iter().map(|m| {
        let said = json!({"value": m.value, "unit": m.unit, "age_ms": m.age_ms});
        (m.name.clone(), said)
    });
    let whole = json!({
        "name": host.name, "slot": host.slot, "state": state_name(host.state),
        "age_ms": host.age_ms, "interval_ms": host.interval_ms,
        "tags": tags(host), "metrics": metric.collect::<Map<String, Value>>(),
    });
    with_node(whole, host)
}

/// What is said of a host that another node heard.
fn with_node(mut said: Value, host: &Host) -> Value {
    if let Some(node) = &host.node {
        said["node"] = json!(node);
    }
    if let Some(cause) = &host.cause {
        said["cause"] = json!(cause);
    }
    said
}

fn default_view(stats: &Stats, stamp: &Stamp) -> Value {
    let (mut metrics, mut tops) = (Map::new(), Map::new());
    for m in &stats.metrics {
        let said = json!({
            "hosts": m.hosts, "min": m.min, "avg": m.avg, "p50": m.p50, "p95": m.p95,
            "p99": m.p99, "max": m.max, "unit": m.unit,
        });
        metrics.insert(m.name.clone(), said);
        tops.insert(
            m.name.clone(),
            m.top.iter().map(|(host, v)| json!([host, v])).collect(),
        );
    }
    json!({
        "seq": stamp.tick, "time": stamp.time_ms, "tick_ms": stamp.tick_ms,
        "flags": flags(stamp.flags),
        "hosts": {"ok": stats.ok, "stale": stats.stale, "down": stats.down},
        "metrics": metrics, "top": tops,
    })
}

fn tags(host: &Host) -> Map<String, Value> {
    let tags = host.tags.iter();
    tags.map(|(key, value)| (key.clone(), json!(value)))
        .collect()
}

fn flags(flags: u16) -> Value {
    let names = ["degraded", "partial", "replay", "rate_lowered"];
    let set = names
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| name).collect()
}

pub fn state_name(state: State) -> &'static str {
    ["none", "ok", "stale", "down", "muted", "warn", "crit"][state as usize]
}
