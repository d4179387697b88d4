//! HAProxy with the configuration that we offer, in front of real nodes.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use http::{Method, StatusCode};
use serde_json::Value;
use tidewall::auth::tokens::hash_text;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use crate::h2::{Http2, connector, run};
use crate::support::{Node, PATIENCE, eventually};
use crate::tls::Files;

const DOC: &str = r#"{"host":"web-1","seq":7,"metrics":{"cpu":53.2}}"#;

const FORM: &str = "token=t-read";

/// Ends with the test.
struct Balancer {
    address: SocketAddr,
    child: Child,
}

impl Balancer {
    /// `deploy/haproxy.cfg` with nothing changed but names of this test's own.
    fn start(files: &Files, nodes: &[&Node; 2]) -> Balancer {
        let pem = files.folder.join("wall.pem");
        let key = fs::read_to_string(&files.key).unwrap();
        fs::write(&pem, files.text() + &key).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut text = fs::read_to_string("deploy/haproxy.cfg").unwrap();
        for (from, to) in [
            ("/run/secrets/wall.pem", pem.display().to_string()),
            ("bind :8443", format!("bind {address}")),
            ("one:8080", nodes[0].address.to_string()),
            ("two:8080", nodes[1].address.to_string()),
            // As many files as this machine may lack.
            ("maxconn 20000", "maxconn 100".to_owned()),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, &to);
        }
        let path = files.folder.join("haproxy.cfg");
        fs::write(&path, text).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy: apt-get install haproxy");
        eventually("a balancer", || TcpStream::connect(address).is_ok());
        Balancer { address, child }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn accepted(nodes: &[&Node; 2]) -> [u64; 2] {
    nodes.map(|node| node.metric("tidewall_samples_accepted_total"))
}

#[test]
fn every_protocol_comes_through_and_an_address_stays_with_one_node() {
    let files = Files::new("balancer");
    let nodes = [Node::start(&[]), Node::start(&[])];
    let nodes = [&nodes[0], &nodes[1]];
    let balancer = Balancer::start(&files, &nodes);
    run(async {
        let mut client = Http2::tls(balancer.address, &files.text()).await;
        let answer = client.post(DOC).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_str()),
            (201, r#"{"accepted":1}"#)
        );
        let mut socket = client.open("websocket", "/api/metrics", &[]).await.unwrap();
        socket.say(DOC);
        let frame = socket.read(20).await;
        let ack: Value = serde_json::from_slice(&frame[2..]).unwrap();
        assert_eq!(ack["ack_seq"], 7);
    });
    let mut both = accepted(&nodes);
    both.sort_unstable();
    assert_eq!(both, [0, 2], "one node had all of it");
    // HTTP/1.1, as browsers open WebSockets.
    let config = connector(&files.text(), b"http/1.1").config().clone();
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(balancer.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let session = ClientConnection::new(config, name).unwrap();
    let stream = StreamOwned::new(session, socket);
    let url = format!("wss://{}/api/live", balancer.address);
    let (mut live, _) = tungstenite::client(url, stream).unwrap();
    let frame = live.read().unwrap().into_text().unwrap();
    let frame: Value = serde_json::from_str(&frame).unwrap();
    assert_eq!(frame["hosts"]["ok"], 1, "the viewer is where the sample is");
}

/// The node speaks clear text and cannot know that browsers come by TLS.
#[test]
fn a_login_behind_the_balancer_sets_a_secure_cookie() {
    let files = Files::new("cookie");
    let tokens = files.folder.join("tokens.toml");
    let hash = hash_text("t-read");
    let entry = format!("[[token]]\nname = \"wall\"\nhash = \"{hash}\"\nscopes = [\"read\"]\n");
    fs::write(&tokens, entry).unwrap();
    let flags = ["--tokens", tokens.to_str().unwrap()];
    let nodes = [Node::start(&flags), Node::start(&flags)];
    let balancer = Balancer::start(&files, &[&nodes[0], &nodes[1]]);
    run(async {
        let mut client = Http2::tls(balancer.address, &files.text()).await;
        let length = FORM.len().to_string();
        // As browsers say it; without it the balancer would have to send chunks.
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", &length),
        ];
        let answer = client.ask(Method::POST, "/login", &form, FORM).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.starts_with("tidewall=t-read;"), "{cookie}");
        assert!(cookie.ends_with("; Secure"), "{cookie}");
    });
}

#[test]
fn nobody_is_refused_while_a_node_drains_and_goes() {
    let files = Files::new("drained");
    let flags = ["--drain", "5s"];
    let nodes = [Node::start(&flags), Node::start(&flags)];
    let nodes = [&nodes[0], &nodes[1]];
    let balancer = Balancer::start(&files, &nodes);
    run(async {
        let mut client = Http2::tls(balancer.address, &files.text()).await;
        assert_eq!(client.post(DOC).await.status, StatusCode::CREATED);
        let [first, _] = accepted(&nodes);
        let (gone, stays) = if 0 < first { (0, 1) } else { (1, 0) };
        nodes[gone].signal("-TERM");
        // Past the end of the one: it had a hundred after the other began to take them.
        while nodes[stays].metric("tidewall_samples_accepted_total") < 100
            || nodes[gone].try_connect().is_ok()
        {
            assert_eq!(client.post(DOC).await.status, StatusCode::CREATED);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}
