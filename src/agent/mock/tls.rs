//! TLS in front of a mock.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Ends TLS and passes on what is inside.
pub(in crate::agent) struct Front {
    address: SocketAddr,
    /// Its own certificate, signed by itself, as PEM.
    pub(in crate::agent) certificate: String,
}

impl Front {
    pub(in crate::agent) fn of(to: SocketAddr, protocol: &str) -> Self {
        Self::with(to, protocol, |_| {})
    }

    /// `change` gets the certificate's making.
    pub(in crate::agent) fn with(
        to: SocketAddr,
        protocol: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self {
            address: listener.local_addr().unwrap(),
            certificate: certificate.pem(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        std::thread::spawn(move || super::http2::run(serve(listener, to, acceptor)));
        front
    }

    pub(in crate::agent) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

/// What `openssl req -x509` makes of itself.
pub(in crate::agent) fn authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

async fn serve(listener: TcpListener, to: SocketAddr, acceptor: TlsAcceptor) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut inside) = acceptor.accept(stream).await else {
                return;
            };
            if let Ok(mut outside) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            }
        });
    }
}
