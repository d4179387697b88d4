//! Sockets: one listener a core, all on one address, and the limits they live under.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{CONNECTIONS_FD_PERCENT, LISTEN_BACKLOG};

/// One listener per core on the same address, all bound before any serves: the kernel spreads
/// connections by a hash over those that listen. Port 0 is chosen once, for all.
pub(super) fn bind(
    address: SocketAddr,
    cores: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = listen(address, cores)?;
    let address = first.local_addr()?;
    let others = (1..cores).map(|_| listen(address, cores));
    let listeners = std::iter::once(Ok(first))
        .chain(others)
        .collect::<io::Result<_>>()?;
    Ok((address, listeners))
}

fn listen(address: SocketAddr, cores: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if 1 < cores {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(LISTEN_BACKLOG).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Raises the soft limit of open files to the hard one; gives the connections that leaves room for.
pub(super) fn raise_open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "could not raise the limit of open files");
        }
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(files.saturating_mul(CONNECTIONS_FD_PERCENT) / 100).unwrap_or(usize::MAX)
}
