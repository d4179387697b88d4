//! TLS: bytes that are no handshake, handshakes by the thousand, records that break the cipher.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::h2::PREFACE;
use crate::peer::Peer;
use crate::siege::{PLAN, Plan, besiege_node, start_with};
use crate::support::{Node, PATIENCE};

/// A node that speaks TLS. Honest clients reach it in clear, through a relay of this process that
/// is their TLS.
pub(crate) struct Secure {
    pub(crate) node: Node,
    /// Where attackers go.
    pub(crate) address: SocketAddr,
    config: Arc<ClientConfig>,
    folder: PathBuf,
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn secure(name: &str, plan: &Plan) -> Secure {
    let folder = format!("tidewall-attacks-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|file| folder.join(file));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    let cert_der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    roots.add(cert_der).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = Arc::new(config.with_no_client_auth());
    let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
    let mut node = start_with(plan, &["--tls-cert", cert, "--tls-key", key]);
    let address = node.address;
    node.address = relay(address, config.clone());
    Secure {
        node,
        address,
        config,
        folder,
    }
}

/// Clear on one side, TLS on the other. Ends with the process.
fn relay(to: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let connector = TlsConnector::from(config);
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((mut near, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let _ = near.set_nodelay(true);
                let far = tokio::net::TcpStream::connect(to).await?;
                let _ = far.set_nodelay(true);
                let name = ServerName::try_from("localhost").unwrap();
                let mut far = connector.connect(name, far).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    };
    thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(serve);
    });
    address
}

impl Secure {
    fn shake(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(self.config.clone(), name).unwrap();
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut stream = StreamOwned::new(session, socket);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::to(self.address).unwrap()
    }
}

/// A ClientHello that rustls made, in one record.
fn client_hello(secure: &Secure) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(secure.config.clone(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn no_handshake() {
    let plan = Plan {
        name: "TLS port: clear HTTP, alerts, garbage, broken records",
        counter: "tidewall_refusals_total{reason=\"tls_",
        answers: &["400 tls_required", "cut off"],
        ..PLAN
    };
    let secure = secure("garbage", &plan);
    let hello = client_hello(&secure);
    let cut = "cut off";
    let clear = "400 tls_required";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "HTTP/1.1",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            clear,
        ),
        ("HTTP/2", PREFACE.to_vec(), clear),
        (
            "SSLv2",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
            clear,
        ),
        (
            "alerts",
            b"\x15\x03\x03\x00\x02\x02\x28".repeat(1_000),
            clear,
        ),
        (
            "heartbeat",
            b"\x18\x03\x02\x00\x03\x01\x40\x00".to_vec(),
            clear,
        ),
        ("junk record", b"\x16\x03\x03\x00\x05junk!".to_vec(), cut),
        (
            "record past the size",
            [b"\x16\x03\x01\xff\xff", &[0; 70_000][..]].concat(),
            cut,
        ),
        ("empty records", b"\x16\x03\x01\x00\x00".repeat(10_000), cut),
        (
            "hello past the size",
            [b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", &[0; 16_380][..]].concat(),
            cut,
        ),
        ("hello twice", hello.repeat(2), cut),
        (
            "hello, then junk",
            [&hello[..], b"\x17\x03\x03\x00\x05junk!"].concat(),
            cut,
        ),
        (
            "hello, then alerts",
            [&hello[..], &b"\x15\x03\x03\x00\x02\x01\x5a".repeat(100)].concat(),
            cut,
        ),
        (
            "hello, then clear HTTP",
            [&hello[..], b"GET / HTTP/1.1\r\n\r\n"].concat(),
            cut,
        ),
    ];
    besiege_node(&secure.node, &plan, |field, number| {
        let turns = cases.iter().cycle().skip(number);
        for (name, bytes, expected) in turns.take_while(|_| field.goes_on()) {
            let mut peer = secure.peer();
            peer.say(bytes);
            peer.listen_to_the_end();
            let met = peer.verdict();
            let as_stated = met == *expected || (*expected == clear && met == cut);
            field.meets(if as_stated {
                met
            } else {
                format!("{name}: {met}")
            });
        }
    });
}

/// Whole handshakes, each dropped at once or followed by records that do not decipher; and keys
/// changed for ever.
#[test]
fn handshake_flood() {
    let plan = Plan {
        name: "TLS handshakes without end, broken ciphers, key updates",
        counter: "tidewall_tls_handshakes_total",
        answers: &["dropped", "cut off"],
        also: &["keys changed"],
        growth_max: 16 * crate::siege::MIB,
        ..PLAN
    };
    let secure = secure("flood", &plan);
    besiege_node(&secure.node, &plan, |field, number| {
        while field.goes_on() {
            let mut stream = secure.shake();
            match number {
                0 | 1 => field.meets("dropped"),
                2 => {
                    let junk = b"\x17\x03\x03\x00\x20thirty-two bytes of no cipher...";
                    let _ = stream.sock.write_all(junk);
                    let ended = stream.sock.read_to_end(&mut Vec::new());
                    let ended = ended.is_ok() || !is_timeout(&ended.unwrap_err());
                    field.meets(if ended { "cut off" } else { "open" });
                }
                _ => {
                    let mut rounds = 0;
                    while rounds < 5_000 && stream.conn.refresh_traffic_keys().is_ok() {
                        if stream.conn.write_tls(&mut stream.sock).is_err() {
                            break;
                        }
                        rounds += 1;
                    }
                    field.meets(if rounds == 5_000 {
                        "keys changed"
                    } else {
                        "cut off"
                    });
                }
            }
        }
    });
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}
