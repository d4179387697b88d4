//! A client's frames by the letter of RFC 6455, over a stream in one piece.

use tidewall::connection::websocket::Bounds;
use tidewall::reject::Reason;

/// All that comes of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    pub messages: Vec<String>,
    /// Bytes of a message that has begun and not ended.
    pub held: Option<usize>,
    pub end: End,
    /// What the server says: pongs, and its close.
    pub out: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum End {
    #[default]
    Open,
    Closed,
    Refused(Reason),
}

/// When the server says close: once it has seen this many bytes, and with which payload.
pub type Parting<'p> = Option<(usize, &'p [u8])>;

struct Frame<'s> {
    fin: bool,
    reserved: bool,
    opcode: u8,
    mask: Option<&'s [u8]>,
    length: u64,
    /// Where the payload begins.
    start: usize,
}

/// A message whose last fragment has not come.
struct Unfinished {
    is_text: bool,
    bytes: Vec<u8>,
}

struct Listener<'p> {
    bounds: Bounds,
    parting: Parting<'p>,
    parted: bool,
    fragments: usize,
    pings: u32,
    unfinished: Option<Unfinished>,
    heard: Heard,
}

pub fn listen(stream: &[u8], bounds: Bounds, parting: Parting<'_>) -> Heard {
    let mut listener = Listener {
        bounds,
        parting,
        parted: false,
        fragments: 0,
        pings: 0,
        unfinished: None,
        heard: Heard::default(),
    };
    listener.heard.end = listener.all(stream).err().unwrap_or_default();
    listener.part(usize::MAX);
    if listener.heard.end != End::Open {
        listener.heard.held = None;
    }
    listener.heard
}

/// Whether a stream as such, whatever its frames mean, floods: this is seen before they are read.
pub fn floods(stream: &[u8], bounds: Bounds) -> bool {
    let (mut at, mut fragments, mut pings) = (0, 0, 0);
    while let Some(frame) = header(stream, at) {
        count(&frame, &mut fragments, &mut pings);
        if bounds.fragments_max <= fragments || bounds.pings_per_ten_seconds_max < pings {
            return true;
        }
        let Some(end) = usize::try_from(frame.length)
            .ok()
            .and_then(|n| frame.start.checked_add(n))
        else {
            return false;
        };
        at = end;
    }
    false
}

fn count(frame: &Frame<'_>, fragments: &mut usize, pings: &mut u32) {
    match frame.opcode {
        0..=2 if frame.fin => *fragments = 0,
        0..=2 => *fragments += 1,
        9 => *pings += 1,
        _ => {}
    }
}

/// RFC 6455 section 5.2. None: not all of it is there.
fn header(stream: &[u8], at: usize) -> Option<Frame<'_>> {
    let bytes = stream.get(at..)?;
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let extended = match second % 128 {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let length = bytes.get(2..2 + extended)?;
    let length = match extended {
        0 => u64::from(second % 128),
        _ => length
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    let masked = 128 <= second;
    let start = 2 + extended + if masked { 4 } else { 0 };
    let mask = bytes.get(2 + extended..start)?;
    Some(Frame {
        fin: 128 <= first,
        reserved: first & 0x70 != 0,
        opcode: first % 16,
        mask: masked.then_some(mask),
        length,
        start: at + start,
    })
}

const BROKEN: Result<(), End> = Err(End::Refused(Reason::WebSocketProtocol));
const NO_TEXT: Result<(), End> = Err(End::Refused(Reason::BadText));
const TOO_BIG: Result<(), End> = Err(End::Refused(Reason::MessageTooBig));

impl Listener<'_> {
    fn all(&mut self, stream: &[u8]) -> Result<(), End> {
        let mut at = 0;
        while let Some(frame) = header(stream, at) {
            self.part(frame.start);
            count(&frame, &mut self.fragments, &mut self.pings);
            if self.bounds.pings_per_ten_seconds_max < self.pings {
                return Err(End::Refused(Reason::PingFlood));
            }
            if self.bounds.fragments_max <= self.fragments {
                return Err(End::Refused(Reason::TooManyFragments));
            }
            if ![0, 1, 2, 8, 9, 10].contains(&frame.opcode) {
                return BROKEN;
            }
            if (self.bounds.message_bytes_max as u64) < frame.length {
                return TOO_BIG;
            }
            at = frame.start + frame.length as usize;
            let before = self.unfinished.as_ref().map(|message| message.bytes.len());
            self.heard.held = before;
            let Some(payload) = stream.get(frame.start..at) else {
                if frame.opcode < 8 {
                    self.heard.held = Some(before.unwrap_or(0) + stream.len() - frame.start);
                }
                return Ok(());
            };
            self.part(at);
            let Some(mask) = frame.mask.filter(|_| !frame.reserved) else {
                return BROKEN;
            };
            let masked = payload.iter().enumerate();
            let payload = masked.map(|(at, byte)| byte ^ mask[at % 4]).collect();
            match frame.opcode {
                0..=2 => self.data(&frame, payload)?,
                _ if !frame.fin || 125 < payload.len() => return BROKEN,
                8 => self.close(&payload)?,
                9 if !self.parted => self.say(0x8a, &payload),
                9 => {}
                _ => self.tell("Pong".to_owned()),
            }
            self.heard.held = self.unfinished.as_ref().map(|message| message.bytes.len());
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>, payload: Vec<u8>) -> Result<(), End> {
        let mut message = match (frame.opcode, self.unfinished.take()) {
            (0, Some(message)) => message,
            (1 | 2, None) => Unfinished {
                is_text: frame.opcode == 1,
                bytes: Vec::new(),
            },
            _ => return BROKEN,
        };
        message.bytes.extend(payload);
        if self.bounds.message_bytes_max < message.bytes.len() {
            return TOO_BIG;
        }
        let text = str::from_utf8(&message.bytes);
        // An end that is cut inside a character may be completed by the next fragment.
        let hopeless = text.is_err_and(|error| frame.fin || error.error_len().is_some());
        if message.is_text && hopeless {
            return NO_TEXT;
        }
        if !frame.fin {
            self.unfinished = Some(message);
        } else if let Some(text) = text.ok().filter(|_| message.is_text) {
            self.tell(format!("Text({text:?})"));
        } else {
            self.tell(format!("Binary({:?})", message.bytes));
        }
        Ok(())
    }

    /// RFC 6455 sections 5.5.1 and 7.4.
    fn close(&mut self, payload: &[u8]) -> Result<(), End> {
        let answer = match payload {
            [] => Vec::new(),
            [_] => return BROKEN,
            [_, _, reason @ ..] if str::from_utf8(reason).is_err() => return NO_TEXT,
            [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
                1000..=1003 | 1007..=1013 | 3000..=4999 => payload.to_vec(),
                _ => [&1002_u16.to_be_bytes()[..], b"Protocol violation"].concat(),
            },
        };
        if !self.parted {
            self.say(0x88, &answer);
        }
        Err(End::Closed)
    }

    /// The server's own close, if the stream has come past it.
    fn part(&mut self, at: usize) {
        if let Some((_, payload)) = self.parting.filter(|(from, _)| *from < at)
            && !self.parted
            && self.heard.end == End::Open
        {
            self.parted = true;
            self.say(0x88, payload);
        }
    }

    fn tell(&mut self, message: String) {
        if !self.parted {
            self.heard.messages.push(message);
        }
    }

    fn say(&mut self, first: u8, payload: &[u8]) {
        self.heard.out.extend([first, payload.len() as u8]);
        self.heard.out.extend(payload);
    }
}
