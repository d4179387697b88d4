//! A connection of the fleet: one task reads from it, any of its thread's writes to it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::agent::stream::Stream;

pub(super) struct Socket {
    stream: RefCell<Stream>,
    /// What the connection did not take yet; the reader sends it on.
    out: RefCell<Vec<u8>>,
    /// The reader's. Woken for room to write, too.
    reader: RefCell<Waker>,
}

impl Socket {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: RefCell::new(stream),
            out: RefCell::default(),
            reader: RefCell::new(Waker::noop().clone()),
        }
    }

    /// Writes what the connection takes and keeps the rest. An error shows in the reader, too.
    pub(super) fn put(&self, bytes: &[u8]) {
        let reader = self.reader.borrow();
        let cx = &mut Context::from_waker(&reader);
        self.send_on(cx);
        let mut out = self.out.borrow_mut();
        let sent = match out.is_empty() {
            true => write(&mut self.stream.borrow_mut(), cx, bytes),
            false => 0,
        };
        out.extend_from_slice(&bytes[sent..]);
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader.borrow_mut().clone_from(cx.waker());
        self.send_on(cx);
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, space)
    }

    /// Ends the connection under its reader's feet.
    pub(super) fn shut(&self) {
        let stream = self.stream.borrow();
        let _ = socket2::SockRef::from(stream.tcp()).shutdown(std::net::Shutdown::Both);
    }

    fn send_on(&self, cx: &mut Context<'_>) {
        let mut out = self.out.borrow_mut();
        let sent = write(&mut self.stream.borrow_mut(), cx, &out);
        out.drain(..sent);
    }
}

/// As many bytes as are taken at once; TLS may still hold some of them, so even none flush it.
fn write(stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match Pin::new(&mut *stream).poll_write(cx, &bytes[sent..]) {
            Poll::Ready(Ok(n @ 1..)) => sent += n,
            Poll::Ready(_) | Poll::Pending => break,
        }
    }
    let _ = Pin::new(stream).poll_flush(cx);
    sent
}
