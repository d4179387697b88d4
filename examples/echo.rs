//! The server's own WebSocket as an echo: what Autobahn's fuzzing client wants to talk to, and what
//! `tidewall serve` has no use for. Over TCP, over TLS, and over streams of HTTP/2 (RFC 8441).
//!
//! Codec, handshake and transports are the server's; what the suite sends needs higher bounds.

#![allow(clippy::print_stdout, reason = "scripts read the addresses")]

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use std::time::Duration;

use tidewall::connection::http1::{Http1, Step};
use tidewall::connection::http2;
use tidewall::connection::memo::Heads;
use tidewall::connection::respond;
use tidewall::connection::websocket::{Bounds, Message, Socket, Status, accept_key};
use tidewall::frame::websocket::{binary_frame, text_frame};
use tidewall::reject::Reject;
use tidewall::server::http2::options;
use tidewall::server::http2::wire::StreamWire;
use tidewall::server::tls::{self, Begun, Tls};
use tidewall::server::wire::Wire;
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

/// Autobahn's section 9 sends messages of 16 MiB, and such of 4 MiB in pieces of 64 bytes.
const BOUNDS: Bounds = Bounds {
    message_bytes_max: 16 << 20,
    fragments_max: usize::MAX,
    pings_per_ten_seconds_max: u32::MAX,
};
const READ_BYTES: usize = 64 * 1024;
/// What a peer that broke the protocol gets to read our close.
const LINGER: Duration = Duration::from_secs(2);

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    LocalSet::new().run_until(listen()).await
}

async fn listen() -> Outcome {
    let any = "127.0.0.1:0";
    let (direct, secure, streams) = (
        TcpListener::bind(any).await?,
        TcpListener::bind(any).await?,
        TcpListener::bind(any).await?,
    );
    let tls: &'static Tls = Box::leak(Box::new(Tls::new(tls::make_identity()?)?));
    println!("direct {}", direct.local_addr()?);
    println!("tls {}", secure.local_addr()?);
    println!("http2 {}", streams.local_addr()?);
    loop {
        tokio::select! {
            accepted = direct.accept() => spawn_local(upgrade(accepted?.0)),
            accepted = secure.accept() => spawn_local(decipher(tls, accepted?.0)),
            accepted = streams.accept() => spawn_local(multiplex(accepted?.0)),
        };
    }
}

async fn decipher(tls: &Tls, stream: TcpStream) -> Outcome {
    match tls::accept(tls, stream).await {
        Begun::Secure(stream) => upgrade(stream).await,
        _ => Ok(()),
    }
}

/// HTTP/1.1 until the handshake (RFC 6455 section 4.2), then the echo.
async fn upgrade(mut wire: impl Wire) -> Outcome {
    let (mut http, mut heads, mut carry) = (Http1::default(), Heads::default(), Vec::new());
    loop {
        let step = http.receive(&carry, &mut heads, |_| Ok(()));
        if let Step::Request {
            request, consumed, ..
        } = step.map_err(|reject| refused(&reject))?
        {
            let mut out = Vec::new();
            respond::switching(
                &mut out,
                &accept_key(&request).map_err(|reject| refused(&reject))?,
                None,
            );
            send(&mut wire, &out).await?;
            return echo(wire, carry.split_off(consumed)).await;
        }
        if read(&mut wire, &mut carry).await? == 0 {
            return Ok(());
        }
    }
}

/// HTTP/2 in clear; each extended CONNECT is an echo of its own.
async fn multiplex(stream: TcpStream) -> Outcome {
    let mut connection = options().handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        let (parts, body) = request.into_parts();
        let asked = http2::request(&parts).map_err(|reject| refused(&reject))?;
        let opens = asked.upgrade.is_some();
        let response = http::Response::builder().status(if opens { 200 } else { 404 });
        let send = respond.send_response(response.body(())?, !opens)?;
        if opens {
            spawn_local(echo(StreamWire::new(body, send), Vec::new()));
        }
    }
    Ok(())
}

fn refused(reject: &Reject) -> io::Error {
    io::Error::other(reject.to_json())
}

/// Messages go back as they came; refusals close as the server's do.
async fn echo(mut wire: impl Wire, mut input: Vec<u8>) -> Outcome {
    let (mut socket, mut out) = (Socket::new(BOUNDS), Vec::new());
    let mut over = false;
    while !over {
        let heard = socket.receive(&input, 0, &mut out, |message, out| {
            match message {
                Message::Text(text) => out.extend_from_slice(&text_frame(text.as_bytes())),
                Message::Binary(bytes) => out.extend_from_slice(&binary_frame(bytes)),
                Message::Pong => {}
            }
            Ok(())
        });
        over = heard != Ok(Status::Open);
        if let Err(reject) = heard {
            let answer = reject.reason.answer();
            socket.close(answer.close_code, answer.text, &mut out);
        }
        send(&mut wire, &out).await?;
        out.clear();
        input.clear();
        over |= !over && read(&mut wire, &mut input).await? == 0;
    }
    wire.finish();
    // What is unread would reset the connection, and the peer might not see our close.
    let _ = timeout(LINGER, async {
        while !matches!(read(&mut wire, &mut input).await, Ok(0) | Err(_)) {
            input.clear();
        }
    })
    .await;
    Ok(())
}

async fn read(wire: &mut impl Wire, input: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = vec![0; READ_BYTES];
    let mut into = ReadBuf::new(&mut buffer);
    poll_fn(|cx| wire.poll_read(cx, &mut into)).await?;
    input.extend_from_slice(into.filled());
    Ok(into.filled().len())
}

async fn send(wire: &mut impl Wire, mut out: &[u8]) -> io::Result<()> {
    poll_fn(|cx| {
        while !out.is_empty() {
            match wire.try_write(out) {
                Ok(written) => out = &out[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(wire.poll_writable(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while wire.has_unsent() {
            ready!(wire.poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    })
    .await
}
