//! Sockets: one listener a core, all on one address, and the limits they live under.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{CONNECTIONS_FD_PERCENT, LISTEN_BACKLOG, TCP_USER_TIMEOUT};

/// One listener per core on the same address, all bound before any serves: the kernel spreads
/// connections by a hash over those that listen. Port 0 is chosen once, for all.
pub(super) fn bind(
    address: SocketAddr,
    cores: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if 1 < cores && address.port() != 0 {
        // With SO_REUSEPORT a second node of the same user would be given half of the first one's
        // connections. Without it, the address is refused while anybody listens there.
        socket(address)?.bind(&address.into())?;
    }
    let first = listen(address, cores)?;
    let address = first.local_addr()?;
    let others = (1..cores).map(|_| listen(address, cores));
    let listeners = std::iter::once(Ok(first))
        .chain(others)
        .collect::<io::Result<_>>()?;
    Ok((address, listeners))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn listen(address: SocketAddr, cores: usize) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    if 1 < cores {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Inherited by what is accepted.
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Two nodes started on one address each answered half of the requests.
    #[test]
    fn an_address_is_had_once() {
        for cores in [1, 3] {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let (address, listeners) = bind(any, cores).unwrap();
            let second = bind(address, cores).map(|_| ());
            assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(listeners);
            assert_eq!(bind(address, cores).unwrap().0, address);
        }
    }
}
