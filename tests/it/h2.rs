//! An HTTP/2 client for tests: the h2 crate over TCP or TLS, one connection.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::PATIENCE;

/// Runs a test's async part; one that hangs fails.
pub(crate) fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let patient = async { tokio::time::timeout(2 * PATIENCE, body).await };
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, patient).expect("the test hangs")
}

pub(crate) struct Http2 {
    pub(crate) send: SendRequest<Bytes>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A WebSocket's stream: bytes of frames, both ways.
pub(crate) struct Stream {
    pub(crate) send: h2::SendStream<Bytes>,
    pub(crate) receive: h2::RecvStream,
    pub(crate) protocol: Option<String>,
}

impl Http2 {
    pub(crate) async fn clear(address: SocketAddr) -> Http2 {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn tls(address: SocketAddr, trust: &str) -> Http2 {
        Self::over(tls(address, trust, b"h2").await).await
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Http2 {
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        tokio::task::spawn_local(async move {
            // How a connection ends is seen by its streams.
            let _ = connection.await;
        });
        let send = send.ready().await.unwrap();
        Http2 { send }
    }

    pub(crate) async fn ask(
        &mut self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, h2::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://node.test{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        let (head, mut data) = response.await?.into_parts();
        let mut whole = Vec::new();
        while let Some(piece) = data.data().await {
            let piece = piece?;
            data.flow_control().release_capacity(piece.len())?;
            whole.extend_from_slice(&piece);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(whole).unwrap(),
        })
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.ask(Method::GET, target, &[], "").await.unwrap()
    }

    pub(crate) async fn post(&mut self, body: &str) -> Answer {
        self.ask(Method::POST, "/api/metrics", &[], body)
            .await
            .unwrap()
    }

    /// Extended CONNECT (RFC 8441); the status when it is refused.
    pub(crate) async fn open(
        &mut self,
        protocol: &'static str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<Stream, StatusCode> {
        let mut send = self.send.clone().ready().await.unwrap();
        while !send.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://node.test{target}"))
            .extension(Protocol::from_static(protocol))
            .header("sec-websocket-version", "13");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let (response, send) = send.send_request(request, false).unwrap();
        let (head, receive) = response.await.unwrap().into_parts();
        if head.status != StatusCode::OK {
            return Err(head.status);
        }
        let chosen = head.headers.get("sec-websocket-protocol");
        let protocol = chosen.map(|value| value.to_str().unwrap().to_owned());
        Ok(Stream {
            send,
            receive,
            protocol,
        })
    }
}

impl Stream {
    /// A masked text frame, with a mask of zeros, shorter than 126 bytes.
    pub(crate) fn say(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126);
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        self.send.send_data(frame.into(), false).unwrap();
    }

    /// Bytes until at least `count` came.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut whole = Vec::new();
        while whole.len() < count {
            let Some(piece) = self.receive.data().await else {
                return whole;
            };
            let piece = piece.unwrap();
            self.receive
                .flow_control()
                .release_capacity(piece.len())
                .unwrap();
            whole.extend_from_slice(&piece);
        }
        whole
    }
}

/// A TLS connection that trusts the one certificate in `trust` (PEM).
pub(crate) async fn tls(
    address: SocketAddr,
    trust: &str,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    connector(trust, alpn).connect(name, stream).await.unwrap()
}

pub(crate) fn connector(trust: &str, alpn: &[u8]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trust.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsConnector::from(Arc::new(config))
}
