//! The server's own WebSocket codec as an echo: what Autobahn's fuzzing client wants to talk to,
//! and what `tidewall serve` has no use for.
//!
//! Prints the address it listens on. Bounds are raised to what the suite sends, nothing else
//! differs from the server.

#![allow(clippy::print_stdout, reason = "scripts read the addresses")]

use std::io;
use std::time::Duration;

use tidewall::connection::http1::{Http1, Step};
use tidewall::connection::memo::Heads;
use tidewall::connection::respond;
use tidewall::connection::websocket::{Bounds, Message, Socket, Status, accept_key};
use tidewall::frame::websocket::{binary_frame, text_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// Autobahn's sections 9.1 to 9.4 send up to 16 MiB in pieces of 64 bytes.
const BOUNDS: Bounds = Bounds {
    message_bytes_max: 16 << 20,
    fragments_max: usize::MAX,
    pings_per_ten_seconds_max: u32::MAX,
};
/// What a peer that broke the protocol gets to read our close.
const LINGER: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let direct = TcpListener::bind("127.0.0.1:0").await?;
    println!("direct {}", direct.local_addr()?);
    loop {
        let (stream, _) = direct.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(upgrade(stream));
    }
}

/// HTTP/1.1 until the handshake (RFC 6455 section 4.2), then the echo.
async fn upgrade(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (mut http, mut heads, mut carry) = (Http1::default(), Heads::default(), Vec::new());
    loop {
        let step = http.receive(&carry, &mut heads, |_| Ok(()));
        if let Step::Request {
            request, consumed, ..
        } = step.map_err(|reject| refused(&reject))?
        {
            let accept = accept_key(&request).map_err(|reject| refused(&reject))?;
            let mut out = Vec::new();
            respond::switching(&mut out, &accept, None);
            stream.write_all(&out).await?;
            return echo(stream, carry.split_off(consumed)).await;
        }
        if stream.read_buf(&mut carry).await? == 0 {
            return Ok(());
        }
    }
}

fn refused(reject: &tidewall::reject::Reject) -> io::Error {
    io::Error::other(reject.to_json())
}

/// Messages go back as they came; refusals close as the server's do.
async fn echo(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut input: Vec<u8>,
) -> io::Result<()> {
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
        stream.write_all(&out).await?;
        out.clear();
        input.clear();
        over |= !over && stream.read_buf(&mut input).await? == 0;
    }
    stream.shutdown().await?;
    // What is unread would reset the connection, and the peer might not see our close.
    let mut sink = vec![0; 64 * 1024];
    let _ = timeout(LINGER, async {
        while !matches!(stream.read(&mut sink).await, Ok(0) | Err(_)) {}
    })
    .await;
    Ok(())
}
