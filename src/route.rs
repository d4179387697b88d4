//! Method and path to endpoint.

use crate::auth::Scope;
use crate::connection::head::{Method, Request};
use crate::reject::{Reason, Reject};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Ingest,
    IngestSocket,
    LiveSocket,
    Snapshot,
    Hosts,
    History,
    Offenders,
    Nodes,
    Health,
    Ready,
    Metrics,
    /// The wall's page.
    Wall,
    /// A file of the dashboard; the path names it.
    Dashboard,
    /// The form that asks for a token, and what it sends.
    Login,
    Logout,
    /// `OPTIONS`: what may be done here.
    Options(&'static str),
}

const API: [&str; 7] = [
    "/api/metrics",
    "/api/live",
    "/api/snapshot",
    "/api/hosts",
    "/api/history",
    "/api/offenders",
    "/api/nodes",
];

/// Finds the endpoint. An upgrade to WebSocket is a way of asking, not a path of its own: the same
/// paths take POST and GET.
pub fn route(request: &Request<'_>) -> Result<Endpoint, Reject> {
    let path = request.path();
    let upgrade = request.upgrade.is_some() && request.method == Method::Get;
    let allow = allowed(path);
    if path.starts_with("/api/") && !API.contains(&path) {
        return Err(Reason::NotFound.into());
    }
    match (path, request.method) {
        (_, Method::Options) => Ok(Endpoint::Options(allow)),
        ("/api/metrics" | "/", Method::Get) if upgrade => Ok(Endpoint::IngestSocket),
        ("/api/live", Method::Get) => Ok(Endpoint::LiveSocket),
        ("/api/metrics", Method::Post) => Ok(Endpoint::Ingest),
        ("/login" | "/logout", Method::Post) => Ok(if path == "/login" {
            Endpoint::Login
        } else {
            Endpoint::Logout
        }),
        (_, Method::Other | Method::Post) => Err(Reject::because(
            Reason::Method,
            format!("this resource takes {allow}"),
        )),
        ("/api/metrics", _) => Err(Reject::because(
            Reason::Method,
            "POST samples here, or open a WebSocket; the node's own metrics are at /metrics",
        )),
        ("/api/live", _) => Err(Reason::UpgradeRequired.into()),
        ("/api/snapshot", _) => Ok(Endpoint::Snapshot),
        ("/api/hosts", _) => Ok(Endpoint::Hosts),
        ("/api/history", _) => Ok(Endpoint::History),
        ("/api/offenders", _) => Ok(Endpoint::Offenders),
        ("/api/nodes", _) => Ok(Endpoint::Nodes),
        ("/healthz", _) => Ok(Endpoint::Health),
        ("/readyz", _) => Ok(Endpoint::Ready),
        ("/metrics", _) => Ok(Endpoint::Metrics),
        ("/" | "/index.html", _) => Ok(Endpoint::Wall),
        ("/login", _) => Ok(Endpoint::Login),
        ("/logout", _) => Err(Reject::because(Reason::Method, "POST here to log out")),
        _ => Ok(Endpoint::Dashboard),
    }
}

impl Endpoint {
    /// The scope a token must have, where tokens are configured.
    pub fn needs(self) -> Option<Scope> {
        match self {
            Endpoint::Ingest | Endpoint::IngestSocket => Some(Scope::Ingest),
            Endpoint::LiveSocket
            | Endpoint::Snapshot
            | Endpoint::Hosts
            | Endpoint::Nodes
            | Endpoint::History
            | Endpoint::Wall => Some(Scope::Read),
            Endpoint::Metrics | Endpoint::Offenders => Some(Scope::Admin),
            // Probes cannot log in; the dashboard's files are the same for everybody.
            Endpoint::Health
            | Endpoint::Ready
            | Endpoint::Dashboard
            | Endpoint::Login
            | Endpoint::Logout
            | Endpoint::Options(_) => None,
        }
    }

    /// A browser may be made to ask for it by any page, so the page's Origin counts.
    pub fn is_for_own_pages(self) -> bool {
        matches!(
            self,
            Endpoint::Ingest
                | Endpoint::IngestSocket
                | Endpoint::LiveSocket
                | Endpoint::Login
                | Endpoint::Logout
        )
    }
}

/// The methods of a path, as `Allow` lists them.
pub fn allowed(path: &str) -> &'static str {
    match path {
        "/api/metrics" => "POST, OPTIONS",
        "/login" => "GET, HEAD, POST, OPTIONS",
        "/logout" => "POST, OPTIONS",
        "*" => "GET, HEAD, POST, OPTIONS",
        _ => "GET, HEAD, OPTIONS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::head::Upgrade;

    #[test]
    fn the_whole_table() {
        let ask = |method, target, upgrade: bool| {
            let upgrade = upgrade.then(Upgrade::default);
            let request = Request {
                method,
                target,
                upgrade,
                ..Request::default()
            };
            route(&request).map_err(|reject| reject.reason)
        };
        for (method, target, upgrade, expected) in [
            (Method::Post, "/api/metrics", false, Ok(Endpoint::Ingest)),
            (
                Method::Post,
                "/api/metrics?x=y",
                false,
                Ok(Endpoint::Ingest),
            ),
            (
                Method::Get,
                "/api/metrics",
                true,
                Ok(Endpoint::IngestSocket),
            ),
            (Method::Get, "/", true, Ok(Endpoint::IngestSocket)),
            (Method::Get, "/api/metrics", false, Err(Reason::Method)),
            (Method::Get, "/api/live", true, Ok(Endpoint::LiveSocket)),
            (Method::Get, "/api/live", false, Ok(Endpoint::LiveSocket)),
            (Method::Head, "/api/snapshot", false, Ok(Endpoint::Snapshot)),
            (
                Method::Get,
                "/api/hosts?epoch=1",
                false,
                Ok(Endpoint::Hosts),
            ),
            (
                Method::Get,
                "/api/history?metric=cpu",
                false,
                Ok(Endpoint::History),
            ),
            (Method::Get, "/", false, Ok(Endpoint::Wall)),
            (Method::Get, "/login", false, Ok(Endpoint::Login)),
            (Method::Post, "/login", false, Ok(Endpoint::Login)),
            (Method::Post, "/logout", false, Ok(Endpoint::Logout)),
            (Method::Get, "/logout", false, Err(Reason::Method)),
            (Method::Post, "/", false, Err(Reason::Method)),
            (Method::Get, "/healthz", false, Ok(Endpoint::Health)),
            (Method::Get, "/readyz", false, Ok(Endpoint::Ready)),
            (Method::Get, "/metrics", false, Ok(Endpoint::Metrics)),
            (Method::Post, "/metrics", false, Err(Reason::Method)),
            (Method::Other, "/api/metrics", false, Err(Reason::Method)),
            (Method::Get, "/api/nothing", false, Err(Reason::NotFound)),
            (Method::Get, "/assets/x.js", false, Ok(Endpoint::Dashboard)),
            (
                Method::Options,
                "/api/metrics",
                false,
                Ok(Endpoint::Options("POST, OPTIONS")),
            ),
        ] {
            assert_eq!(
                ask(method, target, upgrade),
                expected,
                "{method:?} {target}"
            );
        }
    }
}
