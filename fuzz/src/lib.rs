//! What the targets hold the product against: models written from the specifications, slow and
//! plain. They share nothing with it but the limits and the types of what comes out.

pub mod bytes;
pub mod connection;
pub mod cuts;
pub mod filter;
pub mod frames;
pub mod http;
pub mod websocket;
