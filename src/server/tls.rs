//! TLS (RFC 8446, RFC 5246) by rustls: the certificate, its reload, the handshake, and TLS as a
//! [`Wire`].

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context as Waiting, Poll, Waker};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::{Ticketer, default_provider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::broadcast::outbox::Sink;
use crate::config::Identity;
use crate::limits::{TLS_HANDSHAKE_TIMEOUT, TLS_OUT_BYTES_MAX};
use crate::server::wire::{Wire, narrow};

/// Why there is no certificate to serve with. Each text names the file.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("--tls-cert {}: {why}", path.display())]
    Cert { path: PathBuf, why: String },
    #[error("--tls-key {}: {why}", path.display())]
    Key { path: PathBuf, why: String },
    #[error("the certificate and the key do not go together: {0}")]
    Pair(rustls::Error),
    #[error("{0}")]
    Other(#[from] rustls::Error),
}

/// The configuration that new connections get, shared by all cores: a ticket that one core gave is
/// good on every other.
pub struct Tls {
    identity: Identity,
    tickets: Arc<dyn ProducesTickets>,
    present: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    pub fn new(identity: Identity) -> Result<Self, TlsError> {
        let tickets = Ticketer::new()?;
        let present = configure(&identity, tickets.clone())?;
        Ok(Self {
            identity,
            tickets,
            present: RwLock::new(present),
        })
    }

    /// Reads the files again. Connections that stand keep what they have, and so do all when the
    /// files are wrong.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let fresh = configure(&self.identity, self.tickets.clone())?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(present.clone())
    }
}

fn configure(
    identity: &Identity,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = read(identity)?;
    // Said aloud, never the process's default: other libraries may set another one.
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets;
    // A ticket is 250 B to make and send; a client that comes back uses one.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(identity: &Identity) -> Result<Pair, TlsError> {
    let (cert, key, cert_path, key_path) = match identity {
        Identity::Files { cert, key } => (
            text(cert).map_err(|why| cert_error(cert, why))?,
            text(key).map_err(|why| key_error(key, why))?,
            cert.as_path(),
            key.as_path(),
        ),
        Identity::Made { cert, key } => {
            let own = Path::new("(made by this process)");
            (cert.clone().into(), key.clone().into(), own, own)
        }
    };
    let chain = CertificateDer::pem_slice_iter(&cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| cert_error(cert_path, error.to_string()))?;
    if chain.is_empty() {
        return Err(cert_error(cert_path, "holds no PEM certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| key_error(key_path, format!("holds no PEM private key: {error}")))?;
    Ok((chain, key))
}

fn text(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| error.to_string())
}

fn cert_error(path: &Path, why: String) -> TlsError {
    let path = path.to_owned();
    TlsError::Cert { path, why }
}

fn key_error(path: &Path, why: String) -> TlsError {
    let path = path.to_owned();
    TlsError::Key { path, why }
}

/// A certificate for this machine under its usual names, signed by nobody: for a demo.
pub fn make_identity() -> Result<Identity, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(Identity::Made {
        cert: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    })
}

/// How a connection to a port that speaks TLS begins.
pub enum Begun {
    Secure(Box<TlsStream<TcpStream>>),
    /// No handshake came: the peer speaks in clear.
    Clear(TcpStream),
    Failed,
}

/// A handshake, within its time.
pub async fn accept(tls: &Tls, stream: TcpStream) -> Begun {
    let acceptor = tls.acceptor();
    let handshake = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            // RFC 8446 section 5.1: a handshake record.
            Ok(1) if first[0] == 22 => {}
            Ok(1) => return Begun::Clear(stream),
            _ => return Begun::Failed,
        }
        let bounded = |session: &mut rustls::ServerConnection| {
            session.set_buffer_limit(Some(TLS_OUT_BYTES_MAX));
        };
        match acceptor.accept_with(stream, bounded).await {
            Ok(stream) => Begun::Secure(Box::new(stream)),
            Err(_) => Begun::Failed,
        }
    };
    timeout(TLS_HANDSHAKE_TIMEOUT, handshake)
        .await
        .unwrap_or(Begun::Failed)
}

impl Wire for Box<TlsStream<TcpStream>> {
    type Shared = Rc<Shared>;

    fn poll_read(&mut self, cx: &mut Waiting<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), cx, into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody to wake: drivers ask `poll_writable` while anything is unsent.
        write(self, Waker::noop(), &[IoSlice::new(bytes)])
    }

    fn poll_writable(&mut self, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(self), cx)
    }

    fn has_unsent(&self) -> bool {
        self.get_ref().1.wants_write()
    }

    fn finish(&mut self) {
        self.get_mut().1.send_close_notify();
        // A kernel that takes nothing now has a peer that reads nothing: it loses our farewell.
        let _ = AsyncWrite::poll_flush(
            Pin::new(&mut **self),
            &mut Waiting::from_waker(Waker::noop()),
        );
        self.get_mut().0.finish();
    }

    fn is_agreed_http2(&self) -> bool {
        self.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    fn prefer_fresh(&self) {
        self.get_ref().0.prefer_fresh();
    }

    fn share(self) -> (Rc<Shared>, Rc<dyn Sink>) {
        narrow(self.get_ref().0);
        let shared = Rc::new(Shared {
            stream: RefCell::new(self),
            reader: RefCell::new(Waker::noop().clone()),
        });
        (shared.clone(), shared)
    }
}

/// Writes what goes out at once, and at most [`TLS_OUT_BYTES_MAX`] more, which wait enciphered.
fn write(
    stream: &mut TlsStream<TcpStream>,
    waker: &Waker,
    slices: &[IoSlice<'_>],
) -> io::Result<usize> {
    let mut cx = Waiting::from_waker(waker);
    match Pin::new(&mut *stream).poll_flush(&mut cx) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return Err(error),
        Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
    }
    match Pin::new(stream).poll_write_vectored(&mut cx, slices) {
        Poll::Ready(written) => written,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A viewer's TLS: the hub writes, the connection's own task reads and moves what waits.
pub struct Shared {
    stream: RefCell<Box<TlsStream<TcpStream>>>,
    /// The viewer's task: the kernel wakes it for what the hub's write left behind.
    reader: RefCell<Waker>,
}

impl Wire for Rc<Shared> {
    type Shared = Self;

    fn poll_read(&mut self, cx: &mut Waiting<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reader.borrow_mut().clone_from(cx.waker());
        AsyncRead::poll_read(Pin::new(&mut *self.stream.borrow_mut()), cx, into)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Sink::try_write(&**self, &[IoSlice::new(bytes)])
    }

    fn poll_writable(&mut self, cx: &mut Waiting<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_writable(cx)
    }

    fn has_unsent(&self) -> bool {
        self.stream.borrow().has_unsent()
    }

    fn finish(&mut self) {
        self.stream.borrow_mut().finish();
    }

    fn share(self) -> (Self, Rc<dyn Sink>) {
        (self.clone(), self)
    }
}

impl Sink for Shared {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let waker = self.reader.borrow().clone();
        write(&mut self.stream.borrow_mut(), &waker, slices)
    }
}
