//! The dashboard's files, built into the binary.

use crate::connection::head::Request;
use crate::endpoint::Response;
use crate::reject::{Reason, Reject};

/// Only our own files, no frames around us, no inline script. uPlot and Preact set style
/// attributes from code, which no policy forbids; nothing needs `unsafe-inline`.
#[cfg(feature = "dashboard")]
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

#[cfg(feature = "dashboard")]
#[derive(rust_embed::RustEmbed)]
#[folder = "dashboard/dist"]
struct Files;

/// A file that anybody may have: any but the wall's own page, by its exact name.
pub fn asset(request: &Request<'_>) -> Result<Response, Reject> {
    let path = request.path().strip_prefix('/').unwrap_or_default();
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.');
    if path == "index.html" || !path.split('/').all(plain) {
        return Err(Reason::NotFound.into());
    }
    file(request, path)
}

#[cfg(feature = "dashboard")]
pub fn file(request: &Request<'_>, path: &str) -> Result<Response, Reject> {
    let Some(file) = Files::get(path) else {
        return Err(Reason::NotFound.into());
    };
    let etag = format!("\"{}\"", short_hash(&file.metadata.sha256_hash()));
    // Vite puts a hash into the names of what it builds: those never change.
    let hashed = path.starts_with("assets/");
    let cache = if hashed {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let response = if request.if_none_match == Some(etag.as_bytes()) {
        Response::empty(304)
    } else {
        let body = match file.data {
            std::borrow::Cow::Borrowed(bytes) => bytes::Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => bytes.into(),
        };
        let content_type = media_type(path);
        Response {
            status: 200,
            content_type,
            body,
            fields: Vec::new(),
        }
    };
    Ok(response
        .with("ETag", etag)
        .with("Cache-Control", cache)
        .with("Content-Security-Policy", POLICY)
        .with("X-Content-Type-Options", "nosniff")
        // With `no-referrer` a browser would send our own forms with `Origin: null`.
        .with("Referrer-Policy", "same-origin"))
}

#[cfg(feature = "dashboard")]
fn short_hash(hash: &[u8; 32]) -> String {
    use std::fmt::Write;
    hash[..12].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(feature = "dashboard")]
fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(not(feature = "dashboard"))]
pub fn file(_: &Request<'_>, path: &str) -> Result<Response, Reject> {
    if path == "index.html" {
        let text = "Tidewall, built without its dashboard. Try GET /api/snapshot\n";
        return Ok(Response::text(200, text));
    }
    Err(Reason::NotFound.into())
}
