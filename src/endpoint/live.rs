//! What a viewer says, and what it hears besides frames (docs/PROTOCOL.md section 2).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::auth::{self, Grant};
use crate::broadcast::viewer::{Dialect, Refusal, Viewer};
use crate::connection::head::Request;
use crate::connection::websocket;
use crate::endpoint::{Context, rewind};
use crate::frame::view::{Format, Hz, View, backfill_s};
use crate::frame::views::Watched;
use crate::frame::websocket::text_frame;
use crate::limits::{UNACKED_FRAMES_MAX, VIEWS_PER_VIEWER_MAX};
use crate::reject::{Reason, Reject};

/// The subprotocol to echo, and how the viewer then speaks. An offer of which we know nothing is
/// refused: a browser would fail on a missing echo without saying why.
pub fn negotiate(request: &Request<'_>) -> Result<(Dialect, Option<&'static str>), Reject> {
    let mut offered = websocket::offered(request)
        .filter(|member| !auth::is_token_protocol(member))
        .peekable();
    if offered.peek().is_none() {
        return Ok((Dialect::Plain, None));
    }
    let known = offered.find_map(|protocol| match protocol {
        b"tidewall.v1" => Some((Dialect::Binary, Some("tidewall.v1"))),
        b"tidewall.v1+json" => Some((Dialect::Json, Some("tidewall.v1+json"))),
        _ => None,
    });
    known.ok_or_else(|| {
        let detail = "offer the subprotocol tidewall.v1 or tidewall.v1+json, or none";
        Reject::because(Reason::BadUpgrade, detail)
    })
}

/// First words: `welcome` and where the hosts are; a plain viewer is given the default view.
pub fn welcome(context: &Context, viewer: &Viewer, grant: &Grant) -> Result<(), Reason> {
    let now = context.shared.clock.now();
    if viewer.dialect == Dialect::Plain {
        return viewer
            .subscribe(0, View::default_view())
            .map(|_| ())
            .map_err(|_| Reason::Busy);
    }
    let mut message = json!({
        "op": "welcome",
        "boot": context.shared.boot,
        "now": now.wall_ms,
        "tick_ms": context.shared.tick_ms,
        "protocol": "tidewall.v1",
        "limits": { "views": VIEWS_PER_VIEWER_MAX, "unacked": UNACKED_FRAMES_MAX },
    });
    if grant.by_cookie() {
        message["auth"] = json!("cookie");
    }
    say(context, viewer, &message)?;
    say_hosts(context, viewer)
}

/// Where to fetch the host table.
pub fn say_hosts(context: &Context, viewer: &Viewer) -> Result<(), Reason> {
    let epoch = context.hub.host_epoch();
    let url = format!("/api/hosts?epoch={epoch}");
    say(
        context,
        viewer,
        &json!({ "op": "hosts", "epoch": epoch, "url": url }),
    )
}

/// Which view number feeds a subscription now that its rate was lowered.
pub fn say_schemas(context: &Context, viewer: &Viewer) -> Result<(), Reason> {
    for (feed, watched) in viewer.take_lowered() {
        say_schema(context, viewer, feed.id, &watched)?;
    }
    Ok(())
}

fn say_schema(
    context: &Context,
    viewer: &Viewer,
    id: u32,
    watched: &Arc<Watched>,
) -> Result<(), Reason> {
    let view = &watched.view;
    let message = json!({
        "op": "schema",
        "id": id,
        "view": watched.number,
        "hz": view.hz.per_second(),
        "kind": view.kind.name(),
    });
    say(context, viewer, &message)
}

/// The close that follows tells the peer to come back, spread over ten seconds so that a restart
/// is not met by all viewers at once.
pub fn bye(spread: u64) -> Bytes {
    let retry_ms = 500 + spread.wrapping_mul(7_919) % 9_500;
    let code = Reason::Stopping.answer().close_code;
    text_frame(
        json!({ "op": "bye", "code": code, "retry_ms": retry_ms })
            .to_string()
            .as_bytes(),
    )
}

pub(super) fn say(context: &Context, viewer: &Viewer, message: &Value) -> Result<(), Reason> {
    let bytes = text_frame(message.to_string().as_bytes());
    viewer.say(bytes, context.coarse.get().mono_ms)
}

/// One message from a viewer. An error closes it; what it merely got wrong is told by `err`.
pub fn hear(context: &Context, viewer: &Viewer, text: &str) -> Result<(), Reason> {
    if viewer.dialect == Dialect::Plain {
        return Ok(());
    }
    let parsed: Result<Value, _> = serde_json::from_str(text);
    let Ok(Value::Object(message)) = parsed else {
        return say_error(context, viewer, None, "bad_message", "not a JSON object");
    };
    let id = message
        .get("id")
        .and_then(Value::as_u64)
        .and_then(|id| u32::try_from(id).ok());
    let done = match (message.get("op").and_then(Value::as_str), id) {
        (Some(op @ ("pause" | "play")), _) => {
            viewer.pause(op == "pause", context.coarse.get().mono_ms);
            Ok(())
        }
        (Some("replay"), _) => rewind::begin(context, viewer, &message)?,
        (Some("live"), _) => rewind::end(context, viewer).map(Ok)?,
        (Some("ack"), _) => acknowledge(context, viewer, message.get("frames")),
        (Some("sub" | "unsub" | "resync" | "rate"), None) => Err((
            "bad_message",
            "`id` must be an integer, 0 to 4294967295".to_owned(),
        )),
        (Some("sub"), Some(id)) => subscribe(context, viewer, id, message.get("view"))?,
        (Some("unsub"), Some(id)) => viewer.unsubscribe(id).map_err(explain),
        (Some("resync"), Some(id)) => viewer.resync(id).map_err(explain),
        (Some("rate"), Some(id)) => rate(context, viewer, id, message.get("hz"))?,
        (Some(op), _) => Err(("bad_message", format!("unknown op {op:?}"))),
        (None, _) => Err(("bad_message", "`op` is missing".to_owned())),
    };
    match done {
        Ok(()) => Ok(()),
        Err((code, text)) => say_error(context, viewer, id, code, &text),
    }
}

pub(super) type Told = Result<(), (&'static str, String)>;

fn say_error(
    context: &Context,
    viewer: &Viewer,
    id: Option<u32>,
    code: &str,
    text: &str,
) -> Result<(), Reason> {
    say(
        context,
        viewer,
        &json!({ "op": "err", "id": id, "code": code, "message": text }),
    )
}

fn subscribe(
    context: &Context,
    viewer: &Viewer,
    id: u32,
    view: Option<&Value>,
) -> Result<Told, Reason> {
    let format = if viewer.dialect == Dialect::Json {
        Format::Json
    } else {
        Format::Binary
    };
    let asked = view.unwrap_or(&Value::Null);
    let parsed = View::parse(asked, format).and_then(|view| Ok((view, backfill_s(asked)?)));
    let (view, backfill_s) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(("bad_view", error.to_string()))),
    };
    match viewer.subscribe(id, view) {
        Ok(watched) => {
            viewer.wish_backfill(id, backfill_s);
            say_schema(context, viewer, id, &watched).map(Ok)
        }
        Err(refusal) => Ok(Err(explain(refusal))),
    }
}

fn rate(context: &Context, viewer: &Viewer, id: u32, hz: Option<&Value>) -> Result<Told, Reason> {
    let hz = match Hz::parse(hz.unwrap_or(&Value::Null)) {
        Ok(hz) => hz,
        Err(error) => return Ok(Err(("bad_message", error.to_string()))),
    };
    let change = |view: &View| View {
        hz,
        lowered: false,
        ..view.clone()
    };
    match viewer.change(id, change) {
        Ok(watched) => say_schema(context, viewer, id, &watched).map(Ok),
        Err(refusal) => Ok(Err(explain(refusal))),
    }
}

/// `[[id, seq], …]`. A view that is gone by now is no mistake: its last frames were on their way.
fn acknowledge(context: &Context, viewer: &Viewer, frames: Option<&Value>) -> Told {
    let wrong = || {
        (
            "bad_message",
            "`frames` must be a list of [id, seq]".to_owned(),
        )
    };
    let now_ms = context.coarse.get().mono_ms;
    for pair in frames.and_then(Value::as_array).ok_or_else(wrong)? {
        let number = |at: usize| {
            pair.get(at)
                .and_then(Value::as_u64)
                .and_then(|n| u32::try_from(n).ok())
        };
        let (Some(id), Some(seq)) = (number(0), number(1)) else {
            return Err(wrong());
        };
        let _ = viewer.acknowledge(id, seq, now_ms);
    }
    Ok(())
}

pub(super) fn explain(refusal: Refusal) -> (&'static str, String) {
    let (code, text) = match refusal {
        Refusal::DuplicateId => ("duplicate_id", "this id has a view already"),
        Refusal::TooManyViews => ("limit", "a viewer may hold 16 views"),
        Refusal::NodeFull => ("limit", "this node may hold 256 distinct views"),
        Refusal::TooManyReplays => ("limit", "this node may have 16 viewers in the past"),
        Refusal::UnknownId => ("unknown_id", "no view has this id"),
    };
    (code, text.to_owned())
}
