//! Samples in: decode, reserve, resolve names, publish. A batch is taken whole or not at all.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::auth::{Grant, Token};
use crate::catalog::lookup::Lookup;
use crate::clock::Now;
use crate::connection::head::Request;
use crate::connection::websocket;
use crate::decode::body::{self, BodyFault, Encoding};
use crate::decode::fault::{Fault, FaultKind};
use crate::decode::{self, Batch, Doc, json, ndjson};
use crate::endpoint::{Context, history};
use crate::limits::{FUTURE_MS_MAX, LARGE_BODY_BYTES, LARGE_BODY_RESTS, SKEW_MS_MIN};
use crate::observe::Protocol;
use crate::reject::{Reason, Reject};
use crate::ring::Producer;
use crate::sample::{Sample, Slot};

/// One core's way in, reused from request to request: once warm, a sample costs no allocation.
pub struct Intake {
    /// None once a stop has been asked for: the aggregator then knows that no more will come.
    pub producer: Option<Producer>,
    lookup: Lookup,
    batch: Batch,
    inflated: Vec<u8>,
    skews: Skews,
    /// Calls of [`Intake::rest`] since the last large body.
    rests: u32,
}

/// How documents stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    /// Either, as a WebSocket message may be.
    Message,
}

/// A document with a `seq`, taken: what its acknowledgement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub seq: u64,
    pub sent_at: Option<i64>,
    /// It is to be said once the disk has this core's ring up to here.
    pub durable: Option<usize>,
}

/// How far senders' clocks are off, of those that say when they sent.
#[derive(Default)]
struct Skews {
    /// Of hosts that are off by [`SKEW_MS_MIN`] and more; at most one of each slot.
    known: HashMap<Slot, i64, RandomState>,
}

impl Skews {
    /// A document's own time by this node's clock. What a document takes to come counts as the
    /// sender's being late, so small differences are none; and one found is kept while it is about
    /// right, since times that wander with the network would store worse and repeat differently.
    fn correct(&mut self, slot: Slot, doc: &Doc, now_ms: i64) -> i64 {
        let Some(time_ms) = doc.time_ms else {
            return Sample::NO_TIME;
        };
        let Some(sent_at) = doc.sent_at else {
            return time_ms;
        };
        let skew_ms = now_ms.saturating_sub(sent_at);
        if skew_ms.saturating_abs() < SKEW_MS_MIN {
            if !self.known.is_empty() {
                self.known.remove(&slot);
            }
            return time_ms;
        }
        let known = self.known.entry(slot).or_insert(skew_ms);
        if SKEW_MS_MIN / 2 < known.saturating_sub(skew_ms).saturating_abs() {
            *known = skew_ms;
        }
        time_ms.saturating_add(*known).min(now_ms + FUTURE_MS_MAX)
    }
}

impl Intake {
    pub fn new(producer: Producer, lookup: Lookup) -> Self {
        let (batch, inflated) = (Batch::new(), Vec::new());
        Self {
            producer: Some(producer),
            lookup,
            batch,
            inflated,
            skews: Skews::default(),
            rests: u32::MAX,
        }
    }

    /// `POST /api/metrics`: gives the number of samples taken.
    pub fn post(
        &mut self,
        context: &Context,
        grant: &Grant,
        post: &Post<'_>,
    ) -> Result<usize, Reject> {
        let counters = &context.counters;
        let taken = self.try_post(context, grant, post);
        match &taken {
            Ok(samples) => counters.accept(post.protocol, *samples),
            Err(reject) => {
                counters.reject(post.protocol, reject.reason, self.refused_samples());
            }
        }
        taken
    }

    fn try_post(
        &mut self,
        context: &Context,
        grant: &Grant,
        post: &Post<'_>,
    ) -> Result<usize, Reject> {
        let now = context.coarse.get();
        let can_be_durable = || history::durable(context).map(drop);
        self.batch.clear();
        let format = format(post.content_type)?;
        let encoding = encoding(post.content_encoding)?;
        if encoding == Encoding::Identity {
            return self.take(grant, (format, post.body), now, can_be_durable);
        }
        let mut inflated = std::mem::take(&mut self.inflated);
        let inflating = body::inflate(encoding, post.body, &mut inflated);
        let taken = match inflating {
            Ok(()) => self.take(grant, (format, &inflated), now, can_be_durable),
            Err(fault) => Err(refuse_body(fault)),
        };
        if inflating.is_err() {
            // How much came out before the fault is not known here.
            self.rests = 0;
        }
        self.inflated = inflated;
        taken
    }

    /// To be called at each sweep of the core. Gives back what large bodies made grow, once there
    /// has been none for a while, and says whether it did.
    pub fn rest(&mut self) -> bool {
        self.rests = self.rests.saturating_add(1);
        if self.rests != LARGE_BODY_RESTS {
            return false;
        }
        (self.batch, self.inflated) = (Batch::new(), Vec::new());
        true
    }

    /// One WebSocket text message: a document, an array, or NDJSON. `each` hears of every document
    /// that asked to be acknowledged, after all were taken.
    pub fn message(
        &mut self,
        context: &Context,
        grant: &Grant,
        text: &str,
        mut each: impl FnMut(Acknowledged),
    ) -> Result<usize, (Reject, Option<u64>)> {
        let now = context.coarse.get();
        let counters = &context.counters;
        match self.take(grant, (Format::Message, text.as_bytes()), now, || {
            history::durable(context).map(drop)
        }) {
            Ok(samples) => {
                counters.accept(Protocol::WebSocket, samples);
                let position = self.position();
                for doc in self.batch.docs() {
                    if let Some(seq) = doc.seq {
                        each(Acknowledged {
                            seq,
                            sent_at: doc.sent_at,
                            durable: doc.durable.then_some(position),
                        });
                    }
                }
                Ok(samples)
            }
            Err(reject) => {
                counters.reject(Protocol::WebSocket, reject.reason, self.refused_samples());
                Err((reject, self.batch.last_seq()))
            }
        }
    }

    fn take(
        &mut self,
        grant: &Grant,
        (format, body): (Format, &[u8]),
        now: Now,
        can_be_durable: impl FnOnce() -> Result<(), Reject>,
    ) -> Result<usize, Reject> {
        if LARGE_BODY_BYTES < body.len() {
            self.rests = 0;
        }
        let decoded = match format {
            Format::Json => json::decode(body, now.wall_ms, &mut self.batch),
            Format::Ndjson => ndjson::decode(body, now.wall_ms, &mut self.batch),
            Format::Message => decode::message(body, now.wall_ms, &mut self.batch),
        };
        decoded.map_err(|fault| refuse(&fault))?;
        let samples = self.batch.samples();
        let Some(producer) = &mut self.producer else {
            return Err(Reason::Stopping.into());
        };
        if let Some(token) = grant.token() {
            allow(token, &self.batch, body, now)?;
        }
        if self.batch.docs().iter().any(|doc| doc.durable) {
            can_be_durable()?;
        }
        // Room first, names second: a refused batch leaves no trace in the catalog.
        let Some(mut reservation) = producer.reserve(samples) else {
            return Err(Reason::RingFull.into());
        };
        self.lookup.begin();
        let texts = self.batch.texts(body);
        for doc in self.batch.docs() {
            let slot = self.lookup.host(texts.get(doc.host));
            if !self.batch.tags(doc).is_empty() {
                self.lookup.tags(slot, texts.tags(doc));
            }
            let time_ms = self.skews.correct(slot, doc, now.wall_ms);
            for point in self.batch.points(doc) {
                let column = self
                    .lookup
                    .column(texts.get(point.metric), texts.get(point.unit));
                let value = point.value;
                reservation.push(Sample {
                    value,
                    time_ms,
                    slot,
                    column,
                    flags: 0,
                });
            }
        }
        reservation.commit();
        Ok(samples)
    }

    /// Whether a document of the batch that was taken last wants to know that it is on the disk.
    pub fn wants_durable(&self) -> bool {
        self.batch.docs().iter().any(|doc| doc.durable)
    }

    /// Where in this core's ring the samples taken last end.
    pub fn position(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::position)
    }

    /// All that was read up to the fault, and the faulty sample; a whole batch that found no room.
    fn refused_samples(&self) -> usize {
        self.batch.refused().max(self.batch.samples()).max(1)
    }
}

/// Whether a token lets this batch in. What a refused one spent of the rate stays spent.
fn allow(token: &Token, batch: &Batch, body: &[u8], now: Now) -> Result<(), Reject> {
    let texts = batch.texts(body);
    for doc in batch.docs() {
        token.check_host(texts.get(doc.host))?;
    }
    let now_us = i64::try_from(now.mono_ms).unwrap_or(i64::MAX) * 1_000;
    token.spend_samples(batch.samples(), now_us)?;
    let points = batch.docs().iter().flat_map(|doc| batch.points(doc));
    token.spend_columns(points.map(|point| texts.get(point.metric)))
}

/// The subprotocol to echo: a client that can only say its token there offers this beside it, since
/// a browser wants one of its offers back.
pub fn negotiate(request: &Request<'_>) -> Option<&'static str> {
    websocket::offered(request)
        .any(|member| member == SUBPROTOCOL.as_bytes())
        .then_some(SUBPROTOCOL)
}

const SUBPROTOCOL: &str = "tidewall.ingest.v1";

/// A POST's values, whichever HTTP they came by.
#[derive(Clone, Copy, Debug)]
pub struct Post<'p> {
    pub protocol: Protocol,
    pub content_type: Option<&'p [u8]>,
    pub content_encoding: Option<&'p [u8]>,
    pub body: &'p [u8],
}

/// The media types we read; a missing one and what `curl -d` sends are taken for JSON.
pub fn format(content_type: Option<&[u8]>) -> Result<Format, Reject> {
    let Some(value) = content_type else {
        return Ok(Format::Json);
    };
    let media = value
        .split(|&b| b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let is = |known: &str| media.eq_ignore_ascii_case(known.as_bytes());
    if is("application/json") || is("application/x-www-form-urlencoded") {
        Ok(Format::Json)
    } else if is("application/x-ndjson") || is("application/ndjson") {
        Ok(Format::Ndjson)
    } else {
        Err(Reject::because(
            Reason::MediaType,
            "Content-Type must be application/json or application/x-ndjson",
        ))
    }
}

pub fn encoding(content_encoding: Option<&[u8]>) -> Result<Encoding, Reject> {
    let Some(value) = content_encoding else {
        return Ok(Encoding::Identity);
    };
    let is = |known: &str| value.eq_ignore_ascii_case(known.as_bytes());
    if is("gzip") || is("x-gzip") {
        Ok(Encoding::Gzip)
    } else if is("zstd") {
        Ok(Encoding::Zstd)
    } else if is("identity") {
        Ok(Encoding::Identity)
    } else {
        Err(Reject::because(
            Reason::ContentEncoding,
            "Content-Encoding must be gzip or zstd",
        ))
    }
}

fn refuse(fault: &Fault) -> Reject {
    let reason = match fault.kind() {
        FaultKind::Syntax => Reason::Syntax,
        FaultKind::Shape => Reason::Shape,
        FaultKind::Future => Reason::Future,
        FaultKind::TooMany => Reason::TooManySamples,
    };
    Reject::because(reason, fault.to_string())
}

fn refuse_body(fault: BodyFault) -> Reject {
    let reason = match fault {
        BodyFault::TooBig | BodyFault::Ratio => Reason::BodyTooLarge,
        BodyFault::Corrupt | BodyFault::Truncated => Reason::BadCompression,
    };
    Reject::because(reason, fault.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalog::Catalog;
    use crate::clock::Clock;
    use crate::ring::ring;

    #[test]
    fn what_a_large_body_made_grow_is_given_back_in_time() {
        let (producer, _consumer) = ring(1024);
        let mut intake = Intake::new(producer, Lookup::new(Catalog::new()));
        let now = Clock::start().now();
        let take = |intake: &mut Intake, bytes: usize| {
            let mut body = br#"{"host":"a","metrics":{"m":1}}"#.to_vec();
            body.resize(bytes, b' ');
            let taken = intake.take(&Grant::default(), (Format::Json, &body), now, || Ok(()));
            assert_eq!(taken.unwrap(), 1);
        };
        take(&mut intake, LARGE_BODY_BYTES);
        assert!(
            (0..2 * LARGE_BODY_RESTS).all(|_| !intake.rest()),
            "not large"
        );
        for _ in 0..2 {
            take(&mut intake, LARGE_BODY_BYTES + 1);
            assert!((1..LARGE_BODY_RESTS).all(|_| !intake.rest()));
            take(&mut intake, LARGE_BODY_BYTES + 1);
            assert!((1..LARGE_BODY_RESTS).all(|_| !intake.rest()), "begins anew");
            take(&mut intake, 64);
            assert!(intake.rest(), "small ones hold nothing up");
            assert_eq!(intake.batch.docs().as_ptr(), Batch::new().docs().as_ptr());
            assert!((0..2 * LARGE_BODY_RESTS).all(|_| !intake.rest()), "once");
        }
    }
}
