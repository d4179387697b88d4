//! What a connection's bytes come from and go to: TCP, TLS over it, or one stream of HTTP/2.
//!
//! Drivers are generic over [`Wire`], so that plain TCP pays nothing for the others.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Waiting, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::broadcast::outbox::Sink;
use crate::limits::{HTTP2_UNSENT_BYTES, VIEWER_SEND_BUFFER_BYTES};

/// One peer's bytes, in both directions, in order.
pub trait Wire {
    /// The same connection once a viewer's task and the hub both hold it.
    type Shared: Wire;

    fn poll_read(&mut self, cx: &mut Waiting<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Takes what it can at once; `WouldBlock` when the peer takes nothing.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Ready when a write may take something; whatever was taken before is on its way by then.
    fn poll_writable(&mut self, cx: &mut Waiting<'_>) -> Poll<io::Result<()>>;

    /// Bytes were taken that wait in this process for the peer; [`Wire::poll_writable`] moves them.
    fn has_unsent(&self) -> bool;

    /// Says no more: the peer sees an orderly end.
    fn finish(&mut self);

    /// Both sides said HTTP/2 before its first byte (ALPN).
    fn is_agreed_http2(&self) -> bool {
        false
    }

    /// What the kernel holds unsent is kept small: it is old by the time it is sent.
    fn prefer_fresh(&self) {}

    /// For a viewer: what waits on the way to it is old by the time it is seen, so little may.
    fn share(self) -> (Self::Shared, Rc<dyn Sink>);
}

impl Wire for TcpStream {
    type Shared = Halves;

    fn poll_read(&mut self, cx: &mut Waiting<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), cx, into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }

    fn poll_writable(&mut self, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn has_unsent(&self) -> bool {
        false
    }

    fn finish(&mut self) {
        let _ = socket2::SockRef::from(&*self).shutdown(std::net::Shutdown::Write);
    }

    fn prefer_fresh(&self) {
        let _ = socket2::SockRef::from(self).set_tcp_notsent_lowat(HTTP2_UNSENT_BYTES);
    }

    fn share(self) -> (Halves, Rc<dyn Sink>) {
        narrow(&self);
        let (read, write) = self.into_split();
        let write = Rc::new(write);
        (
            Halves {
                read,
                write: write.clone(),
            },
            write,
        )
    }
}

/// A viewer's socket keeps a small send buffer.
pub(super) fn narrow(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_send_buffer_size(VIEWER_SEND_BUFFER_BYTES);
}

/// A viewer's socket: the hub writes, the connection's own task reads.
pub struct Halves {
    read: OwnedReadHalf,
    write: Rc<OwnedWriteHalf>,
}

impl Wire for Halves {
    type Shared = Self;

    fn poll_read(&mut self, cx: &mut Waiting<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        OwnedWriteHalf::try_write(&self.write, bytes)
    }

    fn poll_writable(&mut self, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        self.write.as_ref().as_ref().poll_write_ready(cx)
    }

    fn has_unsent(&self) -> bool {
        false
    }

    fn finish(&mut self) {
        let stream: &TcpStream = self.write.as_ref().as_ref();
        let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
    }

    fn share(self) -> (Self, Rc<dyn Sink>) {
        let write = self.write.clone();
        (self, write)
    }
}

impl Sink for OwnedWriteHalf {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(slices)
    }
}
