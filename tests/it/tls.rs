//! TLS over real sockets: both protocols, resumption, reload, and what goes wrong.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, HandshakeKind, StreamOwned};

use crate::h2::{Http2, connector, run, tls};
use crate::support::{Node, PATIENCE, eventually};

const DOC: &str = r#"{"server_id":1,"metric_type":"cpu","value":53.2,"unit":"%"}"#;

/// A folder of its own with a certificate and its key.
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    pub(crate) fn new(name: &str) -> Files {
        let folder = format!("tidewall-tls-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let files = Files { folder, cert, key };
        files.renew();
        files
    }

    /// Writes another pair; gives the certificate.
    fn renew(&self) -> String {
        let names = ["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(&self.cert, made.cert.pem()).unwrap();
        fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.cert).unwrap()
    }

    pub(crate) fn node(&self) -> Node {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (cert, key) = (text(&self.cert), text(&self.key));
        Node::start(&["--tls-cert", &cert, "--tls-key", &key])
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn both_protocols_are_had_by_alpn() {
    let files = Files::new("alpn");
    let node = files.node();
    run(async {
        let mut http = Http2::tls(node.address, &files.text()).await;
        assert_eq!(http.post(DOC).await.status, 201);
        let opened = http.open("websocket", "/api/metrics", &[]).await;
        let mut ingest = opened.unwrap();
        ingest.say(r#"{"server_name":"a","cpu":1,"seq":3}"#);
        let ack = ingest.read(2).await;
        assert!(String::from_utf8_lossy(&ack).contains("\"ack_seq\":3"));

        let mut stream = tls(node.address, &files.text(), b"http/1.1").await;
        let request = format!(
            "POST /api/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{DOC}",
            DOC.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // To its end: an orderly one, or this is an error.
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");

        let metrics = http.get("/metrics").await.body;
        for line in [
            "tidewall_samples_accepted_total{protocol=\"http1\"} 1",
            "tidewall_samples_accepted_total{protocol=\"http2\"} 1",
            "tidewall_samples_accepted_total{protocol=\"websocket\"} 1",
            "tidewall_tls_handshakes_total 2",
        ] {
            assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
        }
    });
}

#[test]
fn a_viewer_watches_over_tls() {
    let files = Files::new("viewer");
    let node = files.node();
    let config = connector(&files.text(), b"http/1.1").config().clone();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(config, name).unwrap();
    let socket = TcpStream::connect(node.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let stream = StreamOwned::new(session, socket);
    let url = format!("wss://{}/api/live", node.address);
    let (mut live, _) = tungstenite::client(url, stream).unwrap();
    let mut last = 0;
    for _ in 0..5 {
        let frame = live.read().unwrap().into_text().unwrap();
        let frame: serde_json::Value = serde_json::from_str(&frame).unwrap();
        let seq = frame["seq"].as_u64().unwrap();
        assert!(last < seq, "{frame}");
        last = seq;
    }
}

#[test]
fn large_answers_come_whole() {
    let files = Files::new("large");
    let node = files.node();
    run(async {
        let mut http = Http2::tls(node.address, &files.text()).await;
        let doc = |at: usize| format!(r#"{{"host":"host-{at:06}","cpu":{at}}}"#);
        let body = format!("[{}]", (0..60_000).map(doc).collect::<Vec<_>>().join(","));
        assert_eq!(http.post(&body).await.status, 201);
        while !http.get("/api/hosts").await.body.contains("host-059999") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let mut stream = tls(node.address, &files.text(), b"http/1.1").await;
        let request = "GET /api/hosts HTTP/1.1\r\nHost: x\r\n\r\n\
            GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("host-").count(), 60_000);
        assert!(
            answer.ends_with("\r\n\r\nok\n"),
            "what was asked next is answered next"
        );
    });
}

#[test]
fn a_ticket_of_one_core_is_good_on_all() {
    let files = Files::new("resume");
    let node = files.node();
    let connector = connector(&files.text(), b"h2");
    let kinds = run(async {
        let mut kinds = Vec::new();
        for _ in 0..12 {
            let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind());
            // The ticket comes behind the handshake, before the node's SETTINGS.
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .unwrap();
            stream.read_exact(&mut [0; 9]).await.unwrap();
        }
        kinds
    });
    assert_eq!(kinds[0], Some(HandshakeKind::Full));
    let resumed = |kind: &&Option<HandshakeKind>| **kind == Some(HandshakeKind::Resumed);
    assert_eq!(kinds.iter().filter(resumed).count(), 11, "{kinds:?}");
}

#[test]
fn clear_text_is_told_to_use_https() {
    let files = Files::new("clear");
    let node = files.node();
    let answer = node.get("/healthz");
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("use https://"), "{}", answer.body);
    // Neither TLS nor HTTP: closed without a word beyond that answer.
    let mut socket = TcpStream::connect(node.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut socket, b"\x16\x03\x01\xff\xff garbage").unwrap();
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
    run(async {
        let mut http = Http2::tls(node.address, &files.text()).await;
        let metrics = http.get("/metrics").await.body;
        for reason in ["tls_required", "tls_handshake"] {
            let line = format!("tidewall_refusals_total{{reason=\"{reason}\"}} 1");
            assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
        }
    });
}

#[test]
fn a_hangup_brings_the_new_certificate_and_drops_nobody() {
    let files = Files::new("reload");
    let mut node = files.node();
    let old = files.text();
    run(async {
        let mut before = Http2::tls(node.address, &old).await;
        assert_eq!(before.post(DOC).await.status, 201);
        let new = files.renew();
        node.signal("-HUP");
        let mut after = loop {
            let name = ServerName::try_from("localhost").unwrap();
            let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
            if connector(&new, b"h2").connect(name, stream).await.is_ok() {
                break Http2::tls(node.address, &new).await;
            }
        };
        assert_eq!(after.post(DOC).await.status, 201);
        assert_eq!(
            before.post(DOC).await.status,
            201,
            "the old connection stands"
        );

        // A broken file changes nothing, and is told.
        fs::write(&files.cert, "no certificate").unwrap();
        node.signal("-HUP");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let mut last = Http2::tls(node.address, &new).await;
        let asked = last.ask(Method::GET, "/healthz", &[], "").await;
        assert_eq!(asked.unwrap().status, 200);
    });
    node.signal("-TERM");
    assert!(node.wait().success());
    let words = node.last_words();
    assert!(words.contains("holds no PEM certificate"), "{words}");
}

#[test]
fn what_is_wrong_with_the_files_is_said_at_start() {
    let (files, other) = (Files::new("wrong"), Files::new("other"));
    let start = |cert: &Path, key: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidewall"))
            .args(["serve", "--listen", "127.0.0.1:0", "--tls-cert"])
            .arg(cert)
            .arg("--tls-key")
            .arg(key)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = files.folder.join("none.pem");
    assert!(start(&missing, &files.key).contains("none.pem: No such file"));
    assert!(start(&files.key, &files.key).contains("holds no PEM certificate"));
    assert!(start(&files.cert, &files.cert).contains("holds no PEM private key"));
    assert!(start(&files.cert, &other.key).contains("do not go together"));
    let half = Command::new(env!("CARGO_BIN_EXE_tidewall"))
        .args(["serve", "--tls-cert", "x"])
        .output()
        .unwrap();
    assert_eq!(half.status.code(), Some(2));
    eventually("the text", || {
        String::from_utf8_lossy(&half.stderr).contains("--tls-cert and --tls-key go together")
    });
}
