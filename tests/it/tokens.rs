//! Tokens over real sockets: endpoint x token x protocol, and what a token bounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use http::Method;
use tidewall::auth::tokens::hash_text;

use crate::h2::{Http2, run};
use crate::support::{Node, eventually};

const DOC: &str = r#"{"host":"web-1","metrics":{"cpu":1}}"#;

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let name = format!("tidewall-tokens-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        File(path)
    }

    fn node(&self) -> Node {
        Node::start(&["--tokens", self.0.to_str().unwrap()])
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn entry(text: &str, scopes: &str, more: &str) -> String {
    let hash = hash_text(text);
    format!("[[token]]\nname = \"{text}\"\nhash = \"{hash}\"\nscopes = [{scopes}]\n{more}\n")
}

/// What each token is, in the table below.
fn tokens() -> String {
    [
        entry("t-ingest", "\"ingest\"", ""),
        entry("t-read", "\"read\"", ""),
        entry("t-admin", "\"admin\"", ""),
        entry("t-all", "\"ingest\", \"read\", \"admin\"", ""),
        entry(
            "t-old",
            "\"ingest\", \"read\", \"admin\"",
            "expires = 2020-01-01T00:00:00Z",
        ),
    ]
    .concat()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Get,
    Post,
    Socket,
}

/// Way, target, the scope it needs, and the status of a good request.
const ENDPOINTS: [(Way, &str, &str, u16); 14] = [
    (Way::Post, "/api/metrics", "ingest", 201),
    (Way::Socket, "/api/metrics", "ingest", 101),
    (Way::Socket, "/", "ingest", 101),
    (Way::Socket, "/api/live", "read", 101),
    (Way::Get, "/api/snapshot", "read", 200),
    (Way::Get, "/api/hosts", "read", 200),
    (Way::Get, "/", "read", 200),
    (Way::Get, "/index.html", "read", 200),
    (Way::Get, "/metrics", "admin", 200),
    (Way::Get, "/api/offenders", "admin", 200),
    (Way::Get, "/healthz", "", 200),
    (Way::Get, "/readyz", "", 200),
    (Way::Get, "/assets/none.js", "", 404),
    (Way::Get, "/api/none", "", 404),
];

const TOKENS: [&str; 7] = [
    "", "t-ingest", "t-read", "t-admin", "t-all", "t-old", "t-wrong",
];

/// The status that this token gets there, and why.
fn expected(
    token: &str,
    (way, target, needs, good): (Way, &str, &'static str, u16),
) -> (u16, &'static str) {
    let is_page = way == Way::Get && matches!(target, "/" | "/index.html");
    let refused = |reason| if is_page { (303, "") } else { (401, reason) };
    match token {
        _ if needs.is_empty() => (good, ""),
        "" => refused("token_missing"),
        "t-old" => refused("token_expired"),
        "t-wrong" => refused("token_unknown"),
        "t-all" => (good, ""),
        token if token.strip_prefix("t-") == Some(needs) => (good, ""),
        _ if is_page => (303, ""),
        _ => (403, "scope"),
    }
}

fn http1(node: &Node, way: Way, target: &str, token: &str) -> (u16, String) {
    let credential = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let request = match way {
        Way::Get => format!("GET {target} HTTP/1.1\r\nHost: x\r\n{credential}\r\n"),
        Way::Post => format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\n{credential}Content-Length: {}\r\n\r\n{DOC}",
            DOC.len()
        ),
        Way::Socket => format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\n{credential}Connection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
    };
    let answer = node.connect().ask(&request).unwrap();
    if answer.status == 401 {
        assert!(answer.head.contains("WWW-Authenticate: Bearer"));
    }
    (answer.status, answer.body)
}

async fn http2(http: &mut Http2, way: Way, target: &str, token: &str) -> (u16, String) {
    let credential = format!("Bearer {token}");
    let fields = [("authorization", credential.as_str())];
    let fields = if token.is_empty() {
        &[][..]
    } else {
        &fields[..]
    };
    let (method, body) = match way {
        Way::Socket => {
            let opened = http.open("websocket", target, fields).await;
            return (
                opened.err().map_or(101, |status| status.as_u16()),
                String::new(),
            );
        }
        Way::Get => (Method::GET, ""),
        Way::Post => (Method::POST, DOC),
    };
    let answer = http.ask(method, target, fields, body).await.unwrap();
    (answer.status.as_u16(), answer.body)
}

#[test]
fn endpoint_by_token_by_protocol() {
    let file = File::new("table", &tokens());
    let node = file.node();
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    run(async {
        let mut http = Http2::clear(node.address).await;
        for token in TOKENS {
            for endpoint in ENDPOINTS {
                let (way, target, ..) = endpoint;
                let (status, reason) = expected(token, endpoint);
                let one = http1(&node, way, target, token);
                let two = http2(&mut http, way, target, token).await;
                for (version, answer) in [(1, one), (2, two)] {
                    let at = format!("{way:?} {target} with {token:?} over HTTP/{version}");
                    assert_eq!(answer.0, status, "{at}: {}", answer.1);
                    if !answer.1.is_empty() && !reason.is_empty() {
                        assert!(answer.1.contains(reason), "{at}: {}", answer.1);
                    }
                    if !reason.is_empty() {
                        *reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
    });
    let metrics = http1(&node, Way::Get, "/metrics", "t-admin").1;
    for (reason, count) in reasons {
        let line = format!("tidewall_refusals_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
    let accepted = |protocol| format!("samples_accepted_total{{protocol=\"{protocol}\"}} 2\n");
    assert!(metrics.contains(&accepted("http1")) && metrics.contains(&accepted("http2")));
}

#[test]
fn what_a_token_bounds() {
    let file = File::new(
        "bounds",
        &[
            entry("slow", "\"ingest\"", "samples_per_second = 5"),
            entry("narrow", "\"ingest\"", "columns = 2"),
            entry("web", "\"ingest\"", "host_prefix = \"web-\""),
            entry("all", "\"read\", \"admin\"", ""),
        ]
        .concat(),
    );
    let node = file.node();
    let post = |token: &str, body: &str| {
        let length = body.len();
        let answer = node.connect().ask(&format!(
            "POST /api/metrics HTTP/1.1\r\nHost: x\r\nX-API-Key: {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ));
        answer.unwrap()
    };
    let doc = |host: &str, metrics: &str| format!(r#"{{"host":"{host}","metrics":{{{metrics}}}}}"#);

    let five = doc("a", r#""a":1,"b":1,"c":1,"d":1,"e":1"#);
    let many = format!("[{}]", vec![five.clone(); 20].join(","));
    assert_eq!(post("slow", &many).status, 201, "the first may be large");
    let refused = post("slow", &five);
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(
        refused.head.contains("Retry-After: 1\r\n"),
        "{}",
        refused.head
    );

    assert_eq!(post("narrow", &doc("a", r#""a":1,"b":1"#)).status, 201);
    let refused = post("narrow", &doc("a", r#""a":1,"z":1"#));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("column_budget"), "{}", refused.body);
    assert_eq!(post("narrow", &doc("b", r#""b":1"#)).status, 201);

    assert_eq!(post("web", &doc("web-1", r#""a":1"#)).status, 201);
    let two = format!("[{},{}]", doc("web-2", r#""a":1"#), doc("db-1", r#""a":1"#));
    let refused = post("web", &two);
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body.contains("db-1"), "{}", refused.body);
    // A batch is taken whole or not at all, its names too.
    let hosts = http1(&node, Way::Get, "/api/hosts", "all").1;
    assert!(
        !hosts.contains("web-2") && !hosts.contains("db-1"),
        "{hosts}"
    );
    assert!(
        !http1(&node, Way::Get, "/api/snapshot", "all")
            .1
            .contains("\"z\"")
    );
}

#[test]
fn a_dashboard_logs_in_and_out() {
    let file = File::new("login", &tokens());
    let node = file.node();
    let form = |path: &str, body: &str, more: &str| {
        let length = body.len();
        let answer = node.connect().ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
        ));
        answer.unwrap()
    };
    let field = |head: &str, name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().to_owned()
    };
    let led = node.get("/");
    assert_eq!(
        (led.status, field(&led.head, "Location: ").as_str()),
        (303, "/login")
    );
    for wrong in [
        "token=t-wrong",
        "token=t-ingest",
        "token=t-old",
        "token=",
        "x",
    ] {
        let answer = form("/login", wrong, "");
        assert_eq!(answer.status, 303, "{wrong}");
        assert_eq!(
            field(&answer.head, "Location: "),
            "/login?failed",
            "{wrong}"
        );
        assert_eq!(field(&answer.head, "Set-Cookie: "), "", "{wrong}");
    }
    assert_eq!(
        form("/login", "token=t-read", "Origin: http://foe\r\n").status,
        403
    );
    assert_eq!(form("/login", &"x".repeat(2_000), "").status, 413);
    let good = form("/login", "token=t%2Dread", "Origin: http://x\r\n");
    assert_eq!(
        (good.status, field(&good.head, "Location: ").as_str()),
        (303, "/")
    );
    let set = field(&good.head, "Set-Cookie: ");
    for part in ["tidewall=t-read;", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{part} is missing in {set}");
    }
    assert!(
        !set.contains("Secure"),
        "in clear the browser would not send it back"
    );
    let with = |cookie: &str, target: &str, more: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n{more}\r\n");
        node.connect().ask(&request).unwrap().status
    };
    assert_eq!(with("a=b; tidewall=t-read", "/", ""), 200);
    assert_eq!(with("tidewall=t-wrong", "/", ""), 303);
    assert_eq!(with("tidewall=t-ingest", "/", ""), 303, "no dead end");
    assert_eq!(with("tidewall=t-read", "/metrics", ""), 403);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let from = |origin: &str| format!("{upgrade}Origin: {origin}\r\n");
    assert_eq!(with("tidewall=t-read", "/api/live", &from("http://x")), 101);
    assert_eq!(
        with("tidewall=t-read", "/api/live", &from("http://foe")),
        403
    );
    assert_eq!(
        with("tidewall=t-read", "/api/live", upgrade),
        403,
        "a cookie needs an Origin"
    );
    let left = form("/logout", "", "Cookie: tidewall=t-read\r\n");
    assert_eq!(field(&left.head, "Location: "), "/login");
    assert!(field(&left.head, "Set-Cookie: ").contains("tidewall=;"));
    assert!(field(&left.head, "Set-Cookie: ").contains("Max-Age=0"));
}

#[test]
fn a_hangup_withdraws_tokens_and_what_they_opened() {
    let file = File::new("reload", &tokens());
    let mut node = file.node();
    let mut live = node.web_socket("/api/live?key=t-read", None);
    live.next_json();
    fs::write(&file.0, entry("t-new", "\"read\", \"admin\"", "")).unwrap();
    node.signal("-HUP");
    eventually("the new token", || {
        http1(&node, Way::Get, "/api/hosts", "t-new").0 == 200
    });
    assert_eq!(http1(&node, Way::Get, "/api/hosts", "t-read").0, 401);
    let code = loop {
        match live.socket.read().unwrap() {
            tungstenite::Message::Close(frame) => break frame.map(|frame| u16::from(frame.code)),
            _ => live.say("{}"),
        }
    };
    assert_eq!(code, Some(4001));
    // A file that cannot be read changes nothing.
    fs::write(&file.0, "[[token]]\nname = 1").unwrap();
    node.signal("-HUP");
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(http1(&node, Way::Get, "/api/hosts", "t-new").0, 200);
    node.signal("-TERM");
    assert!(node.wait().success());
    let words = node.last_words();
    assert!(words.contains("kept the tokens as they were"), "{words}");
}

#[test]
fn a_new_token_opens_the_door_it_was_made_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewall"))
        .args([
            "token",
            "new",
            "--name",
            "a \"b\"",
            "--scope",
            "ingest,read",
        ])
        .args(["--columns", "7", "--expires", "2100-01-01T00:00:00Z"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (token, entry) = text.split_once('\n').unwrap();
    let file = File::new("new", entry);
    let node = file.node();
    assert_eq!(http1(&node, Way::Post, "/api/metrics", token).0, 201);
    assert_eq!(http1(&node, Way::Get, "/api/hosts", token).0, 200);
    assert_eq!(http1(&node, Way::Get, "/metrics", token).0, 403);
    let wrong = Command::new(env!("CARGO_BIN_EXE_tidewall"))
        .args(["token", "new", "--name", "a", "--scope", "read"])
        .args(["--expires", "tomorrow"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn other_addresses_than_loopback_need_tokens() {
    let start = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tidewall"))
            .args(["serve", "--listen", "0.0.0.0:0"])
            .args(flags)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, words) = start(&[]);
    assert!(code == Some(2) && words.contains("--tokens"), "{words}");
    let file = File::new("broken", "x");
    let (code, words) = start(&["--tokens", file.0.to_str().unwrap()]);
    assert!(code == Some(2) && words.contains("--tokens"), "{words}");
    let (code, words) = start(&["--open", "--tokens", "x"]);
    assert!(code == Some(2) && words.contains("contradict"), "{words}");
}
