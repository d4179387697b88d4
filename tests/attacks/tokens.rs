//! Tokens: guesses by every way in that there is.

use std::path::PathBuf;

use tidewall::auth::tokens::hash_text;

use crate::h2::{H2, request};
use crate::peer::Peer;
use crate::siege::{PLAN, Plan, besiege_node, start_with};
use crate::support::Random;
use crate::websocket::handshake;

const TOKEN: &str = "the-honest-one";

struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn guessing_flood() {
    let plan = Plan {
        name: "Token guesses: fields, cookie, query, subprotocol, form, HTTP/2",
        attackers: 6,
        counter: "tidewall_refusals_total{reason=\"token_unknown\"}",
        answers: &["401 token_unknown", "303", "401"],
        token: Some(TOKEN),
        ..PLAN
    };
    let name = format!("tidewall-attacks-tokens-{}.toml", std::process::id());
    let file = File(std::env::temp_dir().join(name));
    let scopes = r#"["ingest", "read", "admin"]"#;
    let hash = hash_text(TOKEN);
    let entry = format!("[[token]]\nname = \"all\"\nhash = \"{hash}\"\nscopes = {scopes}\n");
    std::fs::write(&file.0, entry).unwrap();
    let node = start_with(&plan, &["--tokens", file.0.to_str().unwrap()]);
    besiege_node(&node, &plan, |field, number| {
        let mut random = Random(number as u64);
        let mut h2 = H2::open(field.node, &[]);
        let mut stream = 1;
        while field.goes_on() {
            // Of the right length, almost right, or as long as a head may be.
            let guess = match random.below(4) {
                0 => format!("{}x", &TOKEN[..TOKEN.len() - 1]),
                1 => "g".repeat(1 + usize::try_from(random.below(8_000)).unwrap()),
                _ => format!("tw_{:016x}", random.next()),
            };
            let close = "Host: x\r\nConnection: close\r\n";
            let short: String = guess.chars().take(200).collect();
            let text = match number {
                0 => format!(
                    "GET /api/hosts HTTP/1.1\r\n{close}Authorization: Bearer {guess}\r\n\r\n"
                ),
                1 => format!("GET /metrics HTTP/1.1\r\n{close}X-API-Key: {guess}\r\n\r\n"),
                2 => format!("GET /api/hosts HTTP/1.1\r\n{close}Cookie: tidewall={guess}\r\n\r\n"),
                3 => handshake(&format!("/api/live?key={short}"), "Connection: close\r\n"),
                4 => {
                    let form = format!("token={short}");
                    let length = form.len();
                    format!("POST /login HTTP/1.1\r\n{close}Content-Length: {length}\r\n\r\n{form}")
                }
                _ => {
                    let field_of = ("authorization", &*format!("Bearer {short}"));
                    h2.ask(stream, &request("POST", "/api/metrics", &[field_of]), true);
                    field.meets(h2.fate_of(stream));
                    h2.acknowledge();
                    h2.forget();
                    stream += 2;
                    continue;
                }
            };
            let mut peer = Peer::connect(field.node).unwrap();
            peer.say(text.as_bytes());
            peer.listen_to_the_end();
            field.meets(peer.verdict());
        }
    });
}
