//! The socket under h2: the bytes that were read before h2 took over, a turn's share of reading,
//! and a meter for floods that h2 does not count.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Waiting, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::http2::Meter;
use crate::limits::{HTTP2_TURN_BYTES, LINGER_BYTES_MAX};

/// What the connection's driver and the socket under h2 both see.
#[derive(Default)]
pub(super) struct Gate {
    meter: RefCell<Meter>,
    /// Bytes that may still be read in this turn.
    left: Cell<usize>,
    pub(super) flooded: Cell<bool>,
    /// h2 has said all it will; the peer may still be reading it.
    pub(super) lingers: Cell<bool>,
    /// The peer had time enough for that.
    pub(super) lingered: Cell<bool>,
    now_ms: Cell<u64>,
}

impl Gate {
    /// A turn begins: the streams had theirs.
    pub(super) fn open(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
        self.left.set(HTTP2_TURN_BYTES);
    }

    fn heard(&self, bytes: &[u8]) {
        self.left.set(self.left.get().saturating_sub(bytes.len()));
        if !self.meter.borrow_mut().read(bytes, self.now_ms.get()) {
            self.flooded.set(true);
        }
    }
}

/// A socket that h2 reads and writes.
pub(super) struct Gated<S> {
    socket: S,
    /// Read before it was known that HTTP/2 is spoken; begins with the preface. Counts as read in
    /// the turns that hand it to h2: it is up to four turns' worth.
    before: Vec<u8>,
    at: usize,
    gate: Rc<Gate>,
    /// Bytes that are still read and forgotten after our last word.
    linger: usize,
}

impl<S> Gated<S> {
    pub(super) fn new(socket: S, before: Vec<u8>, gate: Rc<Gate>) -> Self {
        gate.heard(&before);
        Self {
            socket,
            before,
            at: 0,
            gate,
            linger: LINGER_BYTES_MAX,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Waiting<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.gate.left.get();
        if self.at < self.before.len() && 0 < left {
            let taken = left.min(self.before.len() - self.at).min(into.remaining());
            into.put_slice(&self.before[self.at..self.at + taken]);
            self.at += taken;
            self.gate.left.set(left - taken);
            if self.at == self.before.len() {
                self.before = Vec::new();
                self.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if self.gate.flooded.get() && self.before.is_empty() {
            // The driver sees it too, and ends the connection. Not before h2 has had its preface:
            // only then can it say why.
            return Poll::Pending;
        }
        if left == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let had = into.filled().len();
        let read = if into.remaining() <= left {
            Pin::new(&mut self.socket).poll_read(cx, into)
        } else {
            let mut part = ReadBuf::new(into.initialize_unfilled_to(left));
            let read = Pin::new(&mut self.socket).poll_read(cx, &mut part);
            let came = part.filled().len();
            into.advance(came);
            read
        };
        self.gate.heard(&into.filled()[had..]);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Waiting<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Waiting<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.count(written)
    }

    /// Else h2 copies every frame once more.
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Closes in the order that keeps our last words readable: FIN, then read and forget, so that
    /// no unread byte turns the close into a reset. The driver bounds the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        if !self.gate.lingers.get() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.gate.lingers.set(true);
        }
        while 0 < self.linger && !self.gate.lingered.get() {
            let mut some = [0; 4096];
            let mut into = ReadBuf::new(&mut some);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut into));
            if read.is_err() || into.filled().is_empty() {
                break;
            }
            self.linger = self.linger.saturating_sub(into.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Gated<S> {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.gate.meter.borrow_mut().wrote(*bytes);
        }
        written
    }
}
