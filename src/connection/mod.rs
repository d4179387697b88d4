//! Protocols, bytes in and requests out: no file here touches a socket or a clock.

pub mod chunked;
pub mod head;
pub mod http1;
pub mod http2;
pub mod memo;
pub mod respond;
pub mod websocket;
