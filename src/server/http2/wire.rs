//! A WebSocket's stream of HTTP/2 (RFC 8441) as a [`Wire`]: DATA frames are its bytes.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context as Waiting, Poll};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::ReadBuf;

use crate::broadcast::outbox::Sink;
use crate::limits::HTTP2_SEND_BUFFER_BYTES;
use crate::server::wire::Wire;

/// One stream, held by the task that reads and, for a viewer, by the hub.
pub struct StreamWire {
    receive: RefCell<Receiving>,
    send: RefCell<SendStream<Bytes>>,
}

struct Receiving {
    stream: RecvStream,
    /// What did not fit the last read.
    rest: Bytes,
}

impl StreamWire {
    pub fn new(stream: RecvStream, send: SendStream<Bytes>) -> Rc<Self> {
        let rest = Bytes::new();
        Rc::new(Self {
            receive: Receiving { stream, rest }.into(),
            send: send.into(),
        })
    }
}

pub(super) fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Wire for Rc<StreamWire> {
    type Shared = Self;

    fn poll_read(&mut self, cx: &mut Waiting<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let receiving = &mut *self.receive.borrow_mut();
        while 0 < into.remaining() {
            if receiving.rest.is_empty() {
                match receiving.stream.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        // At once: a window that is not given back stalls the peer for good.
                        let capacity = receiving.stream.flow_control();
                        capacity.release_capacity(data.len()).map_err(broken)?;
                        receiving.rest = data;
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) if into.filled().is_empty() => {
                        return Poll::Ready(Err(broken(error)));
                    }
                    // The end, or an error, is said again once what came before was taken.
                    Poll::Ready(_) => break,
                    Poll::Pending if into.filled().is_empty() => return Poll::Pending,
                    Poll::Pending => break,
                }
            }
            let taken = receiving.rest.len().min(into.remaining());
            into.put_slice(&receiving.rest[..taken]);
            receiving.rest.advance(taken);
        }
        Poll::Ready(Ok(()))
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Sink::try_write(&**self, &[IoSlice::new(bytes)])
    }

    fn poll_writable(&mut self, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        let send = &mut *self.send.borrow_mut();
        send.reserve_capacity(HTTP2_SEND_BUFFER_BYTES);
        if 0 < send.capacity() {
            return Poll::Ready(Ok(()));
        }
        match send.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => Poll::Ready(Ok(())),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(broken(error))),
            Poll::Ready(None) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What h2 took it moves itself.
    fn has_unsent(&self) -> bool {
        false
    }

    fn finish(&mut self) {
        // A stream that is gone needs no end.
        let _ = self.send.borrow_mut().send_data(Bytes::new(), true);
    }

    fn share(self) -> (Self, Rc<dyn Sink>) {
        (self.clone(), self)
    }
}

impl Sink for StreamWire {
    /// h2 keeps what it is given until the peer's window lets it go, so it is given no more than
    /// the window and [`HTTP2_SEND_BUFFER_BYTES`] allow.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let send = &mut *self.send.borrow_mut();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Ok(0);
        }
        send.reserve_capacity(total.min(HTTP2_SEND_BUFFER_BYTES));
        let room = send.capacity().min(total);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut data = BytesMut::with_capacity(room);
        for slice in slices {
            let taken = slice.len().min(room - data.len());
            data.extend_from_slice(&slice[..taken]);
        }
        send.send_data(data.freeze(), false).map_err(broken)?;
        if room == total {
            // What is reserved and not used would be kept from the connection's other streams.
            send.reserve_capacity(0);
        }
        Ok(room)
    }
}
