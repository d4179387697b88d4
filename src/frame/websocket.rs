//! Stub until part FRAME is merged.

use bytes::Bytes;

pub fn text_frame(payload: &[u8]) -> Bytes {
    let length = payload.len() as u16;
    let mut frame = vec![0x81, 126, (length >> 8) as u8, length as u8];
    frame.extend_from_slice(payload);
    frame.into()
}
