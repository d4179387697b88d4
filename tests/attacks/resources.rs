//! Resources: connections and descriptors.

use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use crate::peer::Peer;
use crate::siege::{KIB, MIB, PLAN, Plan, besiege};
use crate::support::eventually;
use crate::watch::cpu_ms;

/// Connections opened and dropped, with half a request or none, in order or by reset.
#[test]
fn connection_flood() {
    let plan = Plan {
        name: "Connections opened and dropped",
        counter: "tidewall_connections_opened_total",
        growth_max: 16 * MIB,
        answers: &["dropped"],
        // A backlog that is full makes even an honest client wait for a second try.
        ..PLAN
    };
    besiege(&plan, |field, number| {
        let starts: [&[u8]; 4] = [
            b"",
            b"\r\n",
            b"POST /api/metrics HT",
            b"GET / HTTP/1.1\r\nHost: x\r\n",
        ];
        for start in starts
            .iter()
            .cycle()
            .skip(number)
            .take_while(|_| field.goes_on())
        {
            // A thousand at a time keep the ports of this machine from running out.
            let mut peers: Vec<_> = (0..10)
                .filter_map(|_| Peer::connect(field.node).ok())
                .collect();
            for (at, peer) in peers.iter_mut().enumerate() {
                peer.say(start);
                if at % 5 != 0 {
                    // Dropped by a reset.
                    let _ = SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO));
                }
                field.meets("dropped");
            }
        }
    });
}

/// Peers that connect and say nothing, or close their half and stay.
#[test]
fn silent_connections() {
    const SILENT: usize = 2_000;
    let plan = Plan {
        name: "2,000 silent connections",
        attackers: 1,
        counter: "tidewall_connections_opened_total",
        growth_max: SILENT as u64 * 8 * KIB,
        answers: &["open", "half closed"],
        ..PLAN
    };
    besiege(&plan, |field, _| {
        let mut silent = Vec::new();
        while silent.len() < SILENT {
            let stream = TcpStream::connect(field.node.address).unwrap();
            if silent.len() % 2 == 1 {
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                field.meets("half closed");
            } else {
                field.meets("open");
            }
            silent.push(stream);
        }
        let node = field.node;
        // Those that said all they will are let go; the others wait for IDLE_TIMEOUT.
        // The honest have up to a hundred, and some that come and go.
        eventually("half the connections to go", || {
            node.metric("tidewall_connections") <= SILENT as u64 / 2 + 200
        });
        field.rest(Duration::from_secs(3600));
    });
}

/// More connections than CONNECTIONS_FD_PERCENT allows: whoever comes too late is told so, whoever
/// is connected is served.
#[test]
fn connections_run_out() {
    let plan = Plan {
        name: "More connections than there may be",
        attackers: 1,
        honest: 8,
        reconnect: false,
        files_max: Some(256),
        counter: "tidewall_refusals_total{reason=\"connections\"}",
        answers: &["held", "503"],
        ..PLAN
    };
    besiege(&plan, |field, _| {
        let mut peers: Vec<Peer> = Vec::new();
        while field.goes_on() {
            for _ in peers.len()..300 {
                peers.push(Peer::connect(field.node).unwrap());
            }
            field.rest(Duration::from_millis(300));
            peers.retain_mut(|peer| {
                peer.glance();
                if peer.ended {
                    field.meets(peer.verdict());
                }
                !peer.ended
            });
        }
        peers.iter().for_each(|_| field.meets("held"));
    });
}

/// Out of descriptors: the node may not spin, and serves whoever is connected.
#[test]
fn descriptors_run_out() {
    let plan = Plan {
        name: "Out of file descriptors",
        attackers: 1,
        honest: 8,
        reconnect: false,
        seconds_min: 3,
        files_max: Some(64),
        counter: "tidewall_accept_errors_total",
        answers: &["exhausted"],
        ..PLAN
    };
    let node = besiege(&plan, |field, _| {
        let pid = field.node.pid();
        let waiting: Vec<_> = (0..200)
            .map(|_| TcpStream::connect(field.node.address))
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        let (before, began) = (cpu_ms(pid), std::time::Instant::now());
        field.rest(Duration::from_secs(3600));
        let percent = u128::from(cpu_ms(pid) - before) * 100 / began.elapsed().as_millis().max(1);
        // A loop over a failing accept takes one core whole, or two. The honest take some too.
        assert!(
            percent < 60,
            "{percent} % of a core while out of descriptors"
        );
        field.meets("exhausted");
        drop(waiting);
    });
    eventually("an answer after the drought", || {
        Peer::connect(&node).is_ok_and(|mut peer| {
            peer.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            peer.listen_to_the_end() && peer.verdict() == "200"
        })
    });
}
