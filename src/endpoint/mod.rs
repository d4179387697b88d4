//! What each endpoint does with a request, whatever protocol it came by.
//!
//! An endpoint gets the core's [`Context`] and plain values; it answers with a [`Response`], or
//! with a question to the aggregator whose answer comes later. Protocol code turns both into bytes.

pub mod dashboard;
pub mod history;
pub mod ingest;
pub mod live;
pub mod login;
pub mod ops;
pub mod past;
pub mod query;
pub mod rewind;

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::aggregator::Question;
use crate::auth::{Origins, Tokens};
use crate::broadcast::Hub;
use crate::catalog::Catalog;
use crate::clock::{Clock, Now};
use crate::cluster::service as cluster;
use crate::endpoint::ingest::Intake;
use crate::frame::views::Views;
use crate::history::service::Access;
use crate::observe::{Aggregated, Counters};
use crate::reject::Reject;

/// One core's state. Everything behind a `Cell` belongs to the core alone.
pub struct Context {
    pub shared: Arc<Shared>,
    pub counters: Arc<Counters>,
    pub hub: Hub,
    pub intake: RefCell<Intake>,
    /// Its number, and that of its ring.
    pub core: usize,
    /// What the core knows of [`Shared::tokens`].
    pub tokens: RefCell<Arc<Tokens>>,
    /// Read from the clock a few times a second: enough for timeouts, free for requests.
    pub coarse: Cell<Now>,
}

/// What all cores see.
pub struct Shared {
    pub clock: Clock,
    pub catalog: Arc<Catalog>,
    pub views: Arc<Views>,
    pub questions: SyncSender<Question>,
    pub cores: Vec<Arc<Counters>>,
    pub aggregated: Arc<Aggregated>,
    /// None: what was is not kept.
    pub history: Option<Access>,
    /// None: this node is alone.
    pub cluster: Option<cluster::Access>,
    pub origins: Origins,
    /// As the file was read last.
    pub tokens: RwLock<Arc<Tokens>>,
    /// The node is reached over TLS: cookies are for it alone.
    pub secure: bool,
    pub tick_ms: u32,
    /// Changes with every start: viewers forget what they knew.
    pub boot: String,
    pub stopping: AtomicBool,
}

impl Context {
    /// A few times a second: a request then asks no lock.
    pub fn refresh_tokens(&self) {
        let shared = self.shared.tokens.read();
        self.tokens
            .borrow_mut()
            .clone_from(&shared.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    /// Cores look at them within a quarter of a second.
    pub fn set_tokens(&self, tokens: Tokens) {
        let mut present = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        *present = Arc::new(tokens);
    }

    /// The ledger's last state, for whoever compares it with a client's count after a stop.
    pub fn close_the_books(&self) {
        let accepted: u64 = self.cores.iter().map(|core| core.accepted_in_all()).sum();
        let aggregated = self.aggregated.samples.get();
        tracing::info!(accepted, aggregated, "stopped");
        if let Some(history) = &self.history {
            let counters = &history.counters;
            let (persisted, pending) = (counters.persisted.get(), counters.pending());
            let dropped = counters.dropped_in_all();
            tracing::info!(persisted, pending, dropped, "history stopped");
            if aggregated != persisted + pending + dropped {
                tracing::error!(
                    aggregated,
                    persisted,
                    pending,
                    dropped,
                    "history lost count"
                );
            }
        }
        if accepted != aggregated {
            tracing::error!(accepted, aggregated, "accepted samples were not merged");
        }
    }
}

/// An answer in full.
#[derive(Debug, Default)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
    pub fields: Vec<(&'static str, String)>,
}

/// An answer now, or once the aggregator has spoken.
pub enum Reply {
    Now(Response),
    Later(query::Asked),
}

impl Response {
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: body.into(),
            fields: Vec::new(),
        }
    }

    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self {
            status,
            content_type,
            body: body.into(),
            fields: Vec::new(),
        }
    }

    pub fn empty(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

impl From<&Reject> for Response {
    fn from(reject: &Reject) -> Self {
        let response = Response::json(reject.reason.answer().status, reject.to_json());
        if reject.reason.is_temporary() {
            let seconds = crate::limits::RETRY_AFTER_SECONDS;
            return response.with("Retry-After", seconds.to_string());
        }
        response
    }
}
