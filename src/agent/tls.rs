//! TLS to a server, by rustls: whom to trust, and what to say when that is not enough.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::Via;
use super::client::ClientError;
use super::target::Target;
use crate::limits::ANSWER_TIMEOUT;

/// What a certificate may lead back to, besides what the system trusts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust<'a> {
    /// A PEM file.
    pub(crate) ca: Option<&'a Path>,
    /// PEM text.
    pub(crate) text: Option<&'a str>,
}

/// Why no TLS can be had; another command line cures it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("--ca {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--ca {}: {why}", path.display())]
    Certificate { path: PathBuf, why: String },
    #[error("--ca {}: holds no PEM certificate", path.display())]
    Empty { path: PathBuf },
    #[error("this system has no certificates to trust: give --ca FILE")]
    Nothing,
    #[error("{0:?} is not a name that a certificate can have")]
    Name(String),
    #[error("{0}")]
    Other(#[from] rustls::Error),
}

/// Why a server was not talked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "the certificate of {0} is not trusted: give the one it leads back to (its own, if it \
         signed itself) with --ca FILE"
    )]
    Untrusted(String),
    #[error("the certificate of {host} is not for that name ({why}): give --to a name it has")]
    Name { host: String, why: String },
    #[error(
        "the certificate of {0} is an authority's and may not be a server's, whatever --ca says: \
         the server needs one that says CA:FALSE"
    )]
    Authority(String),
    #[error("the certificate of {host} is not good: {why}")]
    Certificate { host: String, why: String },
    #[error("{0} does not speak TLS there: give --to a URL that begins with http://")]
    Clear(String),
    #[error("{0} offers no HTTP/2 over TLS: give --via http1")]
    NoHttp2(String),
    #[error("TLS with {host} failed: {why}")]
    Failed { host: String, why: rustls::Error },
}

impl TlsError {
    /// A short name to count by.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "certificate not trusted",
            Self::Name { .. } | Self::Authority(_) | Self::Certificate { .. } => "bad certificate",
            Self::Clear(_) | Self::NoHttp2(_) | Self::Failed { .. } => "tls",
        }
    }
}

/// One server's name and what is trusted to prove it.
#[derive(Clone)]
pub(crate) struct Tls {
    http1: TlsConnector,
    http2: TlsConnector,
    host: String,
    name: ServerName<'static>,
}

impl Tls {
    /// `None` for a target in clear text. Without `resume` every handshake is a stranger's.
    pub(crate) fn new(
        target: &Target,
        trust: Trust<'_>,
        resume: bool,
    ) -> Result<Option<Self>, TrustError> {
        if !target.is_tls() {
            return Ok(None);
        }
        let host = target.address().0.to_owned();
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| TrustError::Name(host.clone()))?;
        // Said aloud, never the process's default: other libraries may set another one.
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(system(), trust)?)
            .with_no_client_auth();
        if !resume {
            config.resumption = Resumption::disabled();
        }
        let connector = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Some(Self {
            http1: connector(b"http/1.1"),
            http2: connector(b"h2"),
            host,
            name,
        }))
    }

    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        via: Via,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let connector = match via {
            Via::Http1 | Via::Websocket => &self.http1,
            Via::Http2 => &self.http2,
        };
        let stream = timeout(ANSWER_TIMEOUT, connector.connect(self.name.clone(), stream))
            .await
            .map_err(|_| ClientError::AnswerTimeout)?
            .map_err(|error| self.explain(error))?;
        // RFC 9113, section 3.2: without the other's word for it this is not HTTP/2.
        if via == Via::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(TlsError::NoHttp2(self.host.clone()).into());
        }
        Ok(stream)
    }

    fn explain(&self, error: io::Error) -> ClientError {
        let found = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(found) = found else {
            return error.into();
        };
        let host = self.host.clone();
        let explained = match found {
            rustls::Error::InvalidCertificate(why) => explain_certificate(host, why),
            rustls::Error::InvalidMessage(_) => TlsError::Clear(host),
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                TlsError::NoHttp2(host)
            }
            why => TlsError::Failed {
                host,
                why: why.clone(),
            },
        };
        explained.into()
    }
}

fn explain_certificate(host: String, why: &CertificateError) -> TlsError {
    let text = why.to_string();
    match why {
        // A bad signature: by another of the same name as one that is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsError::Untrusted(host)
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::Name { host, why: text }
        }
        // What `openssl req -x509` makes. Rustls has no variant for it.
        CertificateError::Other(_) if text.contains("CaUsedAsEndEntity") => {
            TlsError::Authority(host)
        }
        _ => TlsError::Certificate { host, why: text },
    }
}

fn system() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    found.certs
}

fn roots(
    system: Vec<CertificateDer<'static>>,
    trust: Trust<'_>,
) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system);
    if let Some(path) = trust.ca {
        let text = std::fs::read(path).map_err(|source| TrustError::Read {
            path: path.to_owned(),
            source,
        })?;
        add(&mut roots, &text, path)?;
    }
    if let Some(text) = trust.text {
        add(&mut roots, text.as_bytes(), Path::new("(this process)"))?;
    }
    if roots.is_empty() {
        return Err(TrustError::Nothing);
    }
    Ok(roots)
}

fn add(roots: &mut RootCertStore, text: &[u8], path: &Path) -> Result<(), TrustError> {
    let fail = |why: String| TrustError::Certificate {
        path: path.to_owned(),
        why,
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| fail(error.to_string()))?;
    }
    if roots.len() == before {
        return Err(TrustError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddr;

    use rcgen::DistinguishedName;

    use super::*;
    use crate::agent::client::{Client, Line};
    use crate::agent::mock::only_http1;
    use crate::agent::mock::tls::{Front, authority};

    fn line(url: &str, via: Via, text: Option<&str>) -> Line {
        let target = Target::parse(url).unwrap();
        let trust = Trust { ca: None, text };
        Line {
            tls: Tls::new(&target, trust, true).unwrap(),
            target,
            via,
            token: None,
        }
    }

    /// The error of a connection that fails.
    fn fail(url: &str, via: Via, text: Option<&str>) -> (String, &'static str) {
        let runtime = crate::agent::runtime().unwrap();
        let line = line(url, via, text);
        let error = runtime.block_on(Client::connect(&line)).err().unwrap();
        (error.to_string(), error.kind())
    }

    /// Behind it is nothing: it does not come to that.
    fn front(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Front {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        Front::with(nobody, "http/1.1", change)
    }

    fn other() -> String {
        let made = rcgen::generate_simple_self_signed(["x".to_owned()]);
        made.unwrap().cert.pem()
    }

    #[test]
    fn a_bad_certificate_says_what_would_cure_it() {
        let check = |front: &Front, text: &str, expected: &str, kind: &str| {
            let (error, found) = fail(&front.url(), Via::Http1, Some(text));
            assert!(error.contains(expected), "{error}");
            assert_eq!(found, kind);
        };
        let stranger = front(|_| {});
        check(&stranger, &other(), "--ca FILE", "certificate not trusted");
        let unknown = front(|params| params.distinguished_name = DistinguishedName::new());
        check(&unknown, &other(), "--ca FILE", "certificate not trusted");
        let wrong = front(|params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("b".try_into().unwrap())];
        });
        check(
            &wrong,
            &wrong.certificate,
            "give --to a name",
            "bad certificate",
        );
        check(&wrong, &wrong.certificate, "\"b\"", "bad certificate");
        let own = front(authority);
        check(&own, &own.certificate, "CA:FALSE", "bad certificate");
        let old = front(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
        check(&old, &old.certificate, "expired", "bad certificate");
    }

    #[test]
    fn another_protocol_than_asked_for_is_named() {
        let front = front(|_| {});
        let (error, _) = fail(&front.url(), Via::Http2, Some(&front.certificate));
        assert!(error.contains("--via http1"), "{error}");
        let url = format!("https://{}", only_http1());
        let (error, kind) = fail(&url, Via::Http1, Some(&front.certificate));
        assert!(error.contains("begins with http://"), "{error}");
        assert_eq!(kind, "tls");
    }

    #[test]
    fn wrong_files_are_named() {
        let path = std::env::temp_dir().join(format!("tidewall-ca-{}", std::process::id()));
        let try_file = || {
            let target = Target::parse("https://a").unwrap();
            let trust = Trust {
                ca: Some(&path),
                text: None,
            };
            Tls::new(&target, trust, true).map(drop)
        };
        let check = |content: &str, expected: &str| {
            std::fs::write(&path, content).unwrap();
            let error = try_file().unwrap_err().to_string();
            assert!(error.starts_with("--ca "), "{error}");
            assert!(error.contains(expected), "{error}");
        };
        check("", "holds no PEM certificate");
        check(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "BadEncoding",
        );
        std::fs::write(&path, other()).unwrap();
        assert!(try_file().is_ok());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(try_file(), Err(TrustError::Read { .. })));
    }

    #[test]
    fn a_target_needs_a_name_and_somebody_to_trust() {
        let target = |url: &str| Target::parse(url).unwrap();
        let without = |url: &str| Tls::new(&target(url), Trust::default(), true);
        assert!(matches!(without("http://a"), Ok(None)));
        assert!(matches!(without("https://a..b"), Err(TrustError::Name(_))));
        let nothing = roots(Vec::new(), Trust::default());
        assert!(matches!(nothing, Err(TrustError::Nothing)));
    }
}
