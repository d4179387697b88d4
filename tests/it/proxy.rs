//! A way to a server that can be made bad: slow, cut in mid-packet, reset, or half-open.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every read waits this long before it goes on.
    Delay(Duration),
    /// So many bytes from clients still pass, over all connections; then each is reset.
    CutAfter(usize),
    /// New connections are reset at once.
    Refuse,
    /// What comes is taken and forgotten, in both directions, and nobody hears of it.
    Swallow,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    state: Mutex<State>,
}

struct State {
    fault: Fault,
    /// Both ends of each connection.
    open: Vec<(TcpStream, TcpStream)>,
    accepted: usize,
}

impl Proxy {
    pub(crate) fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            state: Mutex::new(State {
                fault: Fault::None,
                open: Vec::new(),
                accepted: 0,
            }),
        });
        // Neither thread is waited for: they end with the test's process, at the latest.
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.accept(client);
            }
        });
        Proxy { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for the connections that are open too.
    pub(crate) fn set(&self, fault: Fault) {
        self.shared.state.lock().unwrap().fault = fault;
    }

    /// True once a cut was reached, since it is followed by [`Fault::None`].
    pub(crate) fn is_sound(&self) -> bool {
        self.shared.state.lock().unwrap().fault == Fault::None
    }

    pub(crate) fn accepted(&self) -> usize {
        self.shared.state.lock().unwrap().accepted
    }

    /// Ends every connection with a reset, as a host that was restarted does.
    pub(crate) fn reset(&self) {
        self.shared.state.lock().unwrap().reset();
    }
}

impl State {
    fn reset(&mut self) {
        for (client, server) in self.open.drain(..) {
            for stream in [client, server] {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// How many of these bytes go on, and after what delay; none: the connection is over.
    fn admit(&mut self, bytes: usize, from_client: bool) -> Option<(usize, Duration)> {
        match &mut self.fault {
            Fault::CutAfter(left) if from_client => {
                if bytes < *left {
                    *left -= bytes;
                    return Some((bytes, Duration::ZERO));
                }
                let left = std::mem::take(left);
                self.fault = Fault::None;
                Some((left, Duration::ZERO))
            }
            Fault::Delay(delay) => Some((bytes, *delay)),
            Fault::Swallow => Some((0, Duration::ZERO)),
            Fault::Refuse => None,
            Fault::None | Fault::CutAfter(_) => Some((bytes, Duration::ZERO)),
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.state.lock().unwrap();
        state.accepted += 1;
        let Ok(server) = TcpStream::connect(self.to) else {
            return;
        };
        if state.fault == Fault::Refuse {
            return;
        }
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let copies = (client.try_clone().unwrap(), server.try_clone().unwrap());
        state.open.push(copies);
        let to_server = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let to_client = (server, client);
        for (pair, from_client) in [(to_server, true), (to_client, false)] {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                let (mut from, mut to) = pair;
                let _ = shared.pump(&mut from, &mut to, from_client);
                // An end is passed on, unless nobody is to hear of it.
                if shared.state.lock().unwrap().fault != Fault::Swallow {
                    let _ = to.shutdown(std::net::Shutdown::Both);
                }
            });
        }
    }

    fn pump(&self, from: &mut TcpStream, to: &mut TcpStream, from_client: bool) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let bytes = from.read(&mut buffer)?;
            if bytes == 0 {
                return Ok(());
            }
            let mut state = self.state.lock().unwrap();
            let admitted = state.admit(bytes, from_client);
            let is_cut =
                admitted.is_some_and(|(some, _)| some < bytes) && state.fault != Fault::Swallow;
            drop(state);
            let Some((some, delay)) = admitted else {
                return Ok(());
            };
            if delay != Duration::ZERO {
                thread::sleep(delay);
            }
            to.write_all(&buffer[..some])?;
            if is_cut {
                self.state.lock().unwrap().reset();
                return Ok(());
            }
        }
    }
}

/// A server that gives back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut copy = stream.try_clone().unwrap();
                io::copy(&mut copy, &mut stream)
            });
        }
    });
    address
}

#[test]
fn every_fault_is_what_it_says() {
    let proxy = Proxy::start(echo());
    let connect = || {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        let patience = Some(Duration::from_millis(200));
        stream.set_read_timeout(patience).unwrap();
        stream
    };
    // Bytes that come back, and whether the connection still stands after them.
    let exchange = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"0123456789");
        let mut answer = [0; 10];
        let mut got = 0;
        while got < answer.len() {
            match stream.read(&mut answer[got..]) {
                Ok(0) => return (got, false),
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (got, true),
                Err(_) => return (got, false),
            }
        }
        (got, true)
    };
    let mut first = connect();
    assert_eq!(exchange(&mut first), (10, true));
    proxy.set(Fault::Delay(Duration::from_millis(1)));
    assert_eq!(exchange(&mut first), (10, true));
    proxy.set(Fault::Swallow);
    assert_eq!(exchange(&mut first), (0, true));
    proxy.set(Fault::None);
    assert_eq!(exchange(&mut first), (10, true));
    // What passed before the cut may or may not come back: the reset overtakes it.
    proxy.set(Fault::CutAfter(14));
    let mut second = connect();
    assert_eq!(exchange(&mut second), (10, true));
    assert!(!proxy.is_sound());
    assert!(!exchange(&mut second).1);
    assert!(proxy.is_sound());
    assert!(!exchange(&mut first).1, "all connections are reset");
    proxy.set(Fault::Refuse);
    assert_eq!(exchange(&mut connect()), (0, false));
    proxy.set(Fault::None);
    let mut third = connect();
    assert_eq!(exchange(&mut third), (10, true));
    proxy.reset();
    assert!(!exchange(&mut third).1);
    assert_eq!(proxy.accepted(), 4);
}
