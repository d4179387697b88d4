//! One HTTP/1.1 connection as the server drives it, and what came out.

use tidewall::connection::head::Request;
use tidewall::connection::http1::{Http1, Step};
use tidewall::connection::memo::Heads;

use crate::http;

#[derive(Default)]
pub struct Connection {
    http: Http1,
    carry: Vec<u8>,
    /// Was the request whose body is awaited judged, was it told to go on?
    judged: bool,
    continued: bool,
    refused: bool,
    /// As [`http::requests`] writes it.
    pub seen: Vec<String>,
}

impl Connection {
    /// A head in more pieces than this is refused for that.
    pub const PIECES_MAX: usize = 60;

    pub fn receive(&mut self, piece: &[u8], heads: &mut Heads) {
        self.carry.extend_from_slice(piece);
        while !self.refused && !piece.is_empty() {
            let judged = &mut self.judged;
            let judge = |_: &Request<'_>| {
                assert!(!std::mem::replace(judged, true), "judged twice");
                Ok(())
            };
            let consumed = match self.http.receive(&self.carry, heads, judge) {
                Ok(Step::More) => return self.check_sums(),
                Ok(Step::Continue) => {
                    assert!(!std::mem::replace(&mut self.continued, true), "said twice");
                    assert!(self.judged && self.http.awaits_body());
                    return;
                }
                Ok(Step::Skip { consumed }) => consumed,
                Ok(Step::Request {
                    request,
                    body,
                    consumed,
                }) => {
                    assert!(!self.http.awaits_body());
                    (self.judged, self.continued) = (false, false);
                    self.seen.push(http::describe(&request, body.bytes()));
                    consumed
                }
                Err(reject) => {
                    let status = reject.reason.answer().status;
                    assert!(
                        [400, 413, 414, 417, 431, 505].contains(&status),
                        "{reject:?}"
                    );
                    self.seen.push("refused".to_owned());
                    self.refused = true;
                    return;
                }
            };
            assert!(0 < consumed && consumed <= self.carry.len());
            self.carry.drain(..consumed);
        }
    }

    /// What the server counts of a request that is on its way.
    fn check_sums(&self) {
        let (http, have) = (&self.http, self.carry.len());
        assert!(http.wants() == 0 || have < http.wants());
        assert!(http.body_bytes(have) <= have);
        assert!(http.decoded_bytes() <= 2 * have.next_power_of_two());
        assert!(http.awaits_body() || http.wants() + http.body_bytes(have) == 0);
    }
}
