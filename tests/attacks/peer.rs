//! A hostile peer's connection: sends any bytes, and tells how the node took them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{Node, PATIENCE};

/// Bytes kept of what the node said; the rest is read and forgotten.
const HEARD_BYTES_MAX: usize = 256 * 1024;
/// A node that takes nothing for this long has stopped reading.
const STUCK_AFTER: Duration = Duration::from_millis(500);

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    pub(crate) heard: Vec<u8>,
    pub(crate) ended: bool,
}

/// What became of bytes that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    All,
    /// The node reads no more.
    Stuck,
    /// The connection has ended.
    Broken,
}

/// One HTTP/1.1 answer, with the reason its JSON body gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) reason: String,
}

impl Peer {
    pub(crate) fn connect(node: &Node) -> std::io::Result<Peer> {
        Peer::to(node.address)
    }

    pub(crate) fn to(address: SocketAddr) -> std::io::Result<Peer> {
        Ok(Peer::new(TcpStream::connect(address)?))
    }

    /// With so small a receive buffer that answers soon wait in the node.
    pub(crate) fn deaf(node: &Node) -> std::io::Result<Peer> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&node.address.into())?;
        Ok(Peer::new(socket.into()))
    }

    fn new(stream: TcpStream) -> Peer {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(STUCK_AFTER));
        Peer {
            stream,
            heard: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> Said {
        match self.stream.write_all(bytes) {
            Ok(()) => Said::All,
            Err(error) if is_timeout(error.kind()) => Said::Stuck,
            Err(_) => Said::Broken,
        }
    }

    /// Reads until the end, or `limit` has passed; gives whether the end came.
    pub(crate) fn listen(&mut self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut buffer = [0; 16 * 1024];
        while !self.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let _ = self.stream.set_read_timeout(Some(left));
            self.take(&mut buffer);
        }
        true
    }

    pub(crate) fn listen_to_the_end(&mut self) -> bool {
        self.listen(PATIENCE)
    }

    /// Reads up to so many bytes if they are there.
    pub(crate) fn sip(&mut self, bytes: usize) {
        let _ = self.stream.set_nonblocking(true);
        let _ = self.stream.read(&mut vec![0; bytes]);
        let _ = self.stream.set_nonblocking(false);
    }

    /// Whether the node has ended the connection with things unread: a reset. Reads nothing.
    pub(crate) fn is_broken(&mut self) -> bool {
        self.ended |= !matches!(self.stream.take_error(), Ok(None));
        self.ended
    }

    /// Waits for the next bytes, or the end.
    pub(crate) fn hear(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let _ = self
            .stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))));
        self.take(&mut [0; 16 * 1024]);
    }

    /// Reads what is there already.
    pub(crate) fn glance(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let _ = self.stream.set_nonblocking(true);
        while !self.ended && self.take(&mut buffer) {}
        let _ = self.stream.set_nonblocking(false);
    }

    /// False when nothing came.
    fn take(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read(buffer) {
            Ok(0) => self.ended = true,
            Ok(len) => {
                let room = HEARD_BYTES_MAX.saturating_sub(self.heard.len());
                self.heard.extend_from_slice(&buffer[..len.min(room)]);
            }
            Err(error) if is_timeout(error.kind()) => return false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.ended = true,
        }
        true
    }

    /// Every answer so far. No body of ours has a status line in it.
    pub(crate) fn answers(&self) -> Vec<Answered> {
        let text = String::from_utf8_lossy(&self.heard);
        let answers = text.split("HTTP/1.1 ").filter_map(|answer| {
            let status = answer.get(..3)?.parse().ok()?;
            let reason = reason(answer);
            Some(Answered { status, reason })
        });
        answers.collect()
    }

    /// `400 bad_header`, `cut off` where no answer came, with `, open` if the connection lives on.
    pub(crate) fn verdict(&self) -> String {
        let said = match self.answers().last() {
            Some(Answered { status, reason }) if reason.is_empty() => status.to_string(),
            Some(Answered { status, reason }) => format!("{status} {reason}"),
            None if self.ended => return "cut off".to_owned(),
            None => return "open".to_owned(),
        };
        if self.ended { said } else { said + ", open" }
    }
}

/// The word after `"reason":`, or nothing.
fn reason(body: &str) -> String {
    let word = body.split("\"reason\":\"").nth(1);
    word.and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
        .to_owned()
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
