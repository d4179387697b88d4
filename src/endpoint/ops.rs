//! For whoever runs the node: alive, ready, own metrics.

use std::sync::atomic::Ordering::Relaxed;

use crate::endpoint::{Context, Response, Shared};
use crate::limits::{COLUMNS_MAX, HOSTS_MAX};
use crate::observe::{self, Gauges};

/// The process runs and this core answers.
pub fn health() -> Response {
    Response::text(200, "ok\n")
}

/// Whether the node takes and keeps data: not while it stops, nor before its aggregator's first
/// tick, nor while history can be written nowhere.
pub fn ready(context: &Context) -> Response {
    let shared = &context.shared;
    if shared.stopping.load(Relaxed) {
        return Response::text(503, "stopping\n");
    }
    if shared.aggregated.ticks.get() == 0 {
        return Response::text(503, "starting\n");
    }
    if let Some(history) = &shared.history
        && history.counters.journal_ok.get() == 0
    {
        return Response::text(503, "history cannot be written\n");
    }
    Response::text(200, "ready\n")
}

/// `GET /api/offenders`: who ran into the bounds of the catalog, the first few by name.
pub fn offenders(context: &Context) -> Response {
    let offenders = context.shared.catalog.offenders();
    let body = serde_json::json!({
        "hosts": { "bound": HOSTS_MAX, "folded": offenders.hosts, "names": offenders.host_names },
        "columns": {
            "bound": COLUMNS_MAX,
            "folded": offenders.columns,
            "names": offenders.column_names,
        },
    });
    Response::json(200, body.to_string()).with("Cache-Control", "no-store")
}

/// `GET /api/nodes`: this node's name, whether it is linked to others, and how they stand.
pub fn nodes(context: &Context) -> Response {
    let shared = &context.shared;
    let body = shared.cluster.as_ref().map_or_else(
        || serde_json::json!({ "node": null, "linked": false, "partial": false, "peers": [] }),
        |cluster| {
            let roster = &cluster.roster;
            serde_json::json!({
                "node": cluster.node,
                "linked": roster.is_linked(),
                "partial": roster.is_partial(),
                "peers": roster.standings(shared.clock.mono_ms()),
            })
        },
    );
    Response::json(200, body.to_string()).with("Cache-Control", "no-store")
}

/// `GET /metrics`, OpenMetrics text.
pub fn metrics(context: &Context) -> Response {
    let shared = &context.shared;
    let cores: Vec<_> = shared.cores.iter().map(AsRef::as_ref).collect();
    let body = {
        let history = shared.history.as_ref().map(|history| &*history.counters);
        let cluster = shared.cluster.as_ref().map(|cluster| &*cluster.counters);
        let gauges = gauges(shared);
        observe::exposition(&cores, &shared.aggregated, history, cluster, &gauges)
    };
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Response {
        status: 200,
        content_type,
        body: body.into(),
        fields: Vec::new(),
    }
}

fn gauges(shared: &Shared) -> Gauges {
    let (hosts, columns) = shared.catalog.counts();
    let offenders = shared.catalog.offenders();
    Gauges {
        hosts,
        columns,
        hosts_folded: offenders.hosts,
        columns_folded: offenders.columns,
        uptime_s: shared.clock.uptime_ms() / 1000,
        resident_bytes: resident_bytes().unwrap_or(0),
    }
}

/// The second number of `/proc/self/statm` is resident pages; a file in memory, not on a disk.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
