//! TLS to Redis: whom to trust, and what to say when that is not enough.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore};

use super::error::LinkError;

/// Why no TLS can be had; another command line cures it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TrustError {
    #[error("--redis-ca {}: {why}", path.display())]
    Read { path: PathBuf, why: String },
    #[error("--redis-ca {}: holds no PEM certificate", path.display())]
    Empty { path: PathBuf },
    #[error("this system has no certificates to trust: give --redis-ca FILE")]
    Nothing,
    #[error("{0}")]
    Other(String),
}

#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
}

impl Tls {
    pub(super) fn new(ca: Option<&Path>) -> Result<Tls, TrustError> {
        // Said aloud, never the process's default: other libraries may set another one.
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Other(error.to_string()))?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Tls { connector })
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        name: &str,
    ) -> Result<TlsStream<TcpStream>, LinkError> {
        let name = ServerName::try_from(name.to_owned()).map_err(|error| LinkError::Name {
            host: host.to_owned(),
            why: error.to_string(),
        })?;
        let connected = self.connector.connect(name, stream).await;
        connected.map_err(|error| explain(host, &error))
    }
}

fn explain(host: &str, error: &io::Error) -> LinkError {
    let found = error.get_ref().and_then(|inner| inner.downcast_ref());
    let host = host.to_owned();
    let why = error.to_string();
    match found {
        Some(rustls::Error::InvalidCertificate(
            // A bad signature: by another of the same name as one that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => LinkError::Untrusted(host),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => LinkError::Name { host, why },
        Some(rustls::Error::InvalidCertificate(_)) => LinkError::Certificate { host, why },
        Some(rustls::Error::InvalidMessage(_)) => LinkError::Clear(host),
        _ => LinkError::Tls { host, why },
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        add(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(TrustError::Nothing);
    }
    Ok(roots)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let wrong = |why: String| TrustError::Read {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    if roots.len() == before {
        let path = path.to_owned();
        return Err(TrustError::Empty { path });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wrong_files_are_named() {
        let path = std::env::temp_dir().join(format!("tidewall-redis-ca-{}", std::process::id()));
        let check = |content: &str, expected: &str| {
            std::fs::write(&path, content).unwrap();
            let error = Tls::new(Some(&path)).err().unwrap().to_string();
            assert!(error.starts_with("--redis-ca ") && error.contains(expected));
        };
        check("", "holds no PEM certificate");
        let begin = "-----BEGIN CERTIFICATE-----\n";
        check(
            &format!("{begin}AAAA\n-----END CERTIFICATE-----\n"),
            "BadEncoding",
        );
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        std::fs::write(&path, made.cert.pem()).unwrap();
        assert!(Tls::new(Some(&path)).is_ok());
        std::fs::remove_file(&path).unwrap();
        let error = Tls::new(Some(&path)).err().unwrap();
        assert!(matches!(error, TrustError::Read { .. }));
    }
}
