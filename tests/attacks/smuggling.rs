//! Request smuggling: every known way to make two servers disagree on where a request ends.
//!
//! Each case hides a POST of its own host. Whatever the case is answered, that POST must never be
//! carried out; where the connection lives on, the next request is answered as itself.

mod cases;

use std::collections::BTreeMap;

use crate::peer::Peer;
use crate::siege::{PLAN, Plan, besiege};
use crate::support::{Node, eventually};
use cases::{Case, cases, hidden};

#[test]
fn smuggling() {
    let plan = Plan {
        name: "Request smuggling",
        answers: &["as stated"],
        ..PLAN
    };
    let cases = cases();
    let node = besiege(&plan, |field, number| {
        let mine = || {
            cases
                .iter()
                .enumerate()
                .skip(number)
                .step_by(plan.attackers)
        };
        let mut rounds = 0;
        while rounds == 0 || field.goes_on() {
            for (at, case) in mine() {
                let met = try_case(field.node, at, case, rounds % 2 == 1);
                field.meets(
                    if case.expected.split(" or ").any(|expected| expected == met) {
                        "as stated".to_owned()
                    } else {
                        format!("{}: {met}", case.name)
                    },
                );
            }
            rounds += 1;
        }
    });
    // That a hidden POST would have been seen, had it been carried out.
    let mut peer = Peer::connect(&node).unwrap();
    peer.say(hidden("control").as_bytes());
    eventually("the control", || hosts(&node).contains_key("control"));
    let smuggled: Vec<_> = hosts(&node)
        .into_keys()
        .filter(|h| h.starts_with("smuggled"))
        .collect();
    assert!(smuggled.is_empty(), "carried out: {smuggled:?}");
}

/// Sends the case, whole or with a pause at the place where two servers would part, then a request
/// that ends the connection; gives the statuses that came.
fn try_case(node: &Node, at: usize, case: &Case, apart: bool) -> String {
    let hidden = hidden(&format!("smuggled-{at}"));
    let bytes = (case.bytes)(&hidden);
    let mut peer = Peer::connect(node).unwrap();
    if let (true, Some(cut)) = (apart, find(&bytes, hidden.as_bytes())) {
        peer.say(&bytes[..cut]);
        std::thread::sleep(std::time::Duration::from_millis(2));
        peer.say(&bytes[cut..]);
    } else {
        peer.say(&bytes);
    }
    peer.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    if !peer.listen_to_the_end() {
        return "open".to_owned();
    }
    let answers = peer.answers();
    let said = answers.iter().map(|answer| match answer.reason.as_str() {
        "" => answer.status.to_string(),
        reason => format!("{} {reason}", answer.status),
    });
    said.collect::<Vec<_>>().join(", ")
}

/// Host names of the node's table.
fn hosts(node: &Node) -> BTreeMap<String, ()> {
    let body = node.get("/api/hosts").body;
    let names = body.split('"').map(|part| (part.to_owned(), ()));
    names.collect()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
