//! What waits for one viewer's socket: a frame half written, control messages, and per view at
//! most one frame, the newest.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::limits::{CONTROL_OUT_BYTES_MAX, SHARED_WAITING_MAX, VIEWS_PER_VIEWER_MAX};

/// Where bytes go. A socket, or a test's buffer.
pub trait Sink {
    /// Writes some of the slices without waiting; `WouldBlock` when the peer takes nothing.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Slices gathered for one system call: the rest of a frame, control messages, a frame per view.
const GATHER: usize = 4 + VIEWS_PER_VIEWER_MAX;

/// Invariant: `started` is the only message whose first byte has gone out, so everything else may
/// still be replaced or dropped without tearing the stream.
#[derive(Debug, Default)]
pub struct Outbox {
    started: Option<Started>,
    control: VecDeque<Control>,
    /// Sum over `control` and `started` of what belongs to this viewer alone.
    private_bytes: usize,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Started {
    bytes: Bytes,
    at: usize,
    is_frame: bool,
    private_bytes: usize,
}

#[derive(Debug)]
struct Control {
    bytes: Bytes,
    /// Zero for a message that all viewers share.
    private_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    view: u32,
    frame: Bytes,
}

/// What a flush achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    pub bytes: usize,
    pub frames: u64,
    pub empty: bool,
}

/// The viewer does not take its control messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

impl Outbox {
    /// Queues a message for this viewer alone.
    pub fn control(&mut self, bytes: Bytes) -> Result<(), Overflow> {
        if CONTROL_OUT_BYTES_MAX < self.private_bytes + bytes.len() {
            return Err(Overflow);
        }
        self.private_bytes += bytes.len();
        let private_bytes = bytes.len();
        self.control.push_back(Control {
            bytes,
            private_bytes,
        });
        Ok(())
    }

    /// Queues a message that all viewers share; refused when many messages wait already.
    pub fn shared(&mut self, bytes: Bytes) -> Result<(), Overflow> {
        if SHARED_WAITING_MAX <= self.control.len() {
            return Err(Overflow);
        }
        self.control.push_back(Control {
            bytes,
            private_bytes: 0,
        });
        Ok(())
    }

    /// Puts a frame into its view's slot; true when an older one, not yet begun, was dropped for
    /// it.
    pub fn frame(&mut self, view: u32, frame: Bytes) -> bool {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.view == view) {
            slot.frame = frame;
            return true;
        }
        self.slots.push(Slot { view, frame });
        false
    }

    /// Takes back a frame that has not begun; true when there was one.
    pub fn withdraw(&mut self, view: u32) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| slot.view != view);
        self.slots.len() < before
    }

    pub fn is_empty(&self) -> bool {
        self.started.is_none() && self.control.is_empty() && self.slots.is_empty()
    }

    /// Frames that will never be sent if the viewer leaves now.
    pub fn frames_waiting(&self) -> u64 {
        let started = self
            .started
            .as_ref()
            .is_some_and(|started| started.is_frame);
        self.slots.len() as u64 + u64::from(started)
    }

    /// Writes until all is gone or the socket takes no more.
    pub fn flush(&mut self, sink: &dyn Sink) -> io::Result<Flushed> {
        let mut flushed = Flushed::default();
        while !self.is_empty() {
            let written = match self.write_once(sink) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(flushed),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // What went out before counts; a broken socket says so again.
                Err(_) if 0 < flushed.bytes => return Ok(flushed),
                Err(e) => return Err(e),
            };
            flushed.bytes += written;
            flushed.frames += self.advance(written);
        }
        flushed.empty = true;
        Ok(flushed)
    }

    fn write_once(&self, sink: &dyn Sink) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); GATHER];
        let started = self
            .started
            .iter()
            .map(|started| &started.bytes[started.at..]);
        let control = self.control.iter().map(|control| &control.bytes[..]);
        let frames = self.slots.iter().map(|slot| &slot.frame[..]);
        let mut count = 0;
        for (into, bytes) in slices.iter_mut().zip(started.chain(control).chain(frames)) {
            *into = IoSlice::new(bytes);
            count += 1;
        }
        sink.try_write(&slices[..count])
    }

    /// Forgets `written` bytes in the order of `write_once`; gives the frames that ended.
    fn advance(&mut self, mut written: usize) -> u64 {
        let mut frames = 0;
        while 0 < written {
            let Some(mut message) = self.next() else {
                return frames;
            };
            let taken = (message.bytes.len() - message.at).min(written);
            message.at += taken;
            written -= taken;
            if message.at < message.bytes.len() {
                self.started = Some(message);
            } else {
                frames += u64::from(message.is_frame);
                self.private_bytes -= message.private_bytes;
            }
        }
        frames
    }

    fn next(&mut self) -> Option<Started> {
        if let Some(started) = self.started.take() {
            return Some(started);
        }
        if let Some(control) = self.control.pop_front() {
            return Some(Started {
                bytes: control.bytes,
                at: 0,
                is_frame: false,
                private_bytes: control.private_bytes,
            });
        }
        let next = (!self.slots.is_empty()).then(|| self.slots.remove(0));
        next.map(|slot| Started {
            bytes: slot.frame,
            at: 0,
            is_frame: true,
            private_bytes: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Takes `room` bytes, then blocks.
    #[derive(Default)]
    struct Narrow {
        taken: RefCell<Vec<u8>>,
        room: Cell<usize>,
    }

    impl Sink for Narrow {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut taken = 0;
            for slice in slices {
                let n = slice.len().min(self.room.get());
                self.taken.borrow_mut().extend_from_slice(&slice[..n]);
                self.room.set(self.room.get() - n);
                taken += n;
            }
            if taken == 0 {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(taken)
            }
        }
    }

    #[test]
    fn the_newest_frame_wins_and_none_is_torn() {
        let (mut outbox, sink) = (Outbox::default(), Narrow::default());
        assert!(!outbox.frame(1, Bytes::from_static(b"[one]")));
        sink.room.set(2);
        assert!(!outbox.flush(&sink).unwrap().empty);
        assert!(
            !outbox.frame(1, Bytes::from_static(b"[two]")),
            "one has begun: nothing dropped"
        );
        assert!(
            outbox.frame(1, Bytes::from_static(b"[three]")),
            "two is dropped for three"
        );
        outbox.control(Bytes::from_static(b"<pong>")).unwrap();
        assert_eq!(outbox.frames_waiting(), 2);
        sink.room.set(999);
        let flushed = outbox.flush(&sink).unwrap();
        assert_eq!((flushed.frames, flushed.empty), (2, true));
        assert_eq!(sink.taken.borrow().as_slice(), b"[one]<pong>[three]");
    }

    #[test]
    fn every_room_gives_the_same_bytes() {
        for room in 1..30 {
            let (mut outbox, sink) = (Outbox::default(), Narrow::default());
            outbox.control(Bytes::from_static(b"<a>")).unwrap();
            outbox.shared(Bytes::from_static(b"<b>")).unwrap();
            for view in 0..4 {
                outbox.frame(
                    view,
                    Bytes::from(vec![b'0' + u8::try_from(view).unwrap(); 5]),
                );
            }
            let mut frames = 0;
            while !outbox.is_empty() {
                sink.room.set(room);
                frames += outbox.flush(&sink).unwrap().frames;
            }
            assert_eq!(frames, 4);
            assert_eq!(
                sink.taken.borrow().as_slice(),
                b"<a><b>00000111112222233333"
            );
            assert_eq!(outbox.private_bytes, 0);
        }
    }

    /// Breaks after `room` bytes, for good.
    struct Breaking(Narrow);

    impl Sink for Breaking {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let broken = |_| io::ErrorKind::BrokenPipe.into();
            self.0.try_write(slices).map_err(broken)
        }
    }

    /// Frames sent by the flush that met the error were neither sent nor closed in the ledger.
    #[test]
    fn frames_sent_before_the_socket_broke_are_counted() {
        let (mut outbox, sink) = (Outbox::default(), Breaking(Narrow::default()));
        outbox.frame(1, Bytes::from_static(b"[one]"));
        outbox.frame(2, Bytes::from_static(b"[two]"));
        sink.0.room.set(7);
        let flushed = outbox.flush(&sink).unwrap();
        assert_eq!((flushed.frames, flushed.empty), (1, false));
        assert_eq!(outbox.frames_waiting(), 1);
        assert!(outbox.flush(&sink).is_err());
    }

    #[test]
    fn control_is_bounded() {
        let mut outbox = Outbox::default();
        let message = |n: usize| Bytes::from(vec![0; n]);
        outbox.control(message(CONTROL_OUT_BYTES_MAX)).unwrap();
        assert_eq!(outbox.control(message(1)), Err(Overflow));
        // Half sent, it is held as a whole.
        let sink = Narrow::default();
        sink.room.set(CONTROL_OUT_BYTES_MAX - 1);
        outbox.flush(&sink).unwrap();
        assert_eq!(outbox.control(message(1)), Err(Overflow));
        sink.room.set(1);
        assert!(outbox.flush(&sink).unwrap().empty);
        outbox.control(message(CONTROL_OUT_BYTES_MAX)).unwrap();
        for _ in 1..SHARED_WAITING_MAX {
            outbox.shared(message(999)).unwrap();
        }
        assert_eq!(outbox.shared(message(1)), Err(Overflow));
    }
}
