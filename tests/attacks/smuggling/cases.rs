//! The ways of hiding a request, and what each must be answered.

type Around = dyn Fn(&str) -> Vec<u8> + Sync;

/// One way of hiding a request.
pub(super) struct Case {
    pub(super) name: String,
    /// What is sent, around the hidden request.
    pub(super) bytes: Box<Around>,
    /// Statuses, with reasons, of all answers until the connection ends. Two lists with `or`
    /// between where a head that comes alone is refused at once, and the connection with it.
    pub(super) expected: &'static str,
}

/// The request that must never be carried out. A host for each case shows which one was.
pub(super) fn hidden(host: &str) -> String {
    let body = format!(r#"{{"host":"{host}","metrics":{{"smuggled":1}}}}"#);
    let length = body.len();
    format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")
}

const FRAMING: &str = "400 bad_framing";
const HEADER: &str = "400 bad_header";
const LINE: &str = "400 bad_request_line";
const CHUNK: &str = "400 bad_chunk";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    ambiguous_lengths(&mut cases);
    malformed_fields(&mut cases);
    malformed_lines(&mut cases);
    chunks(&mut cases);
    expectations(&mut cases);
    swallowed(&mut cases);
    cases
}

fn add(
    cases: &mut Vec<Case>,
    name: &str,
    expected: &'static str,
    bytes: impl Fn(&str) -> Vec<u8> + Sync + 'static,
) {
    cases.push(Case {
        name: name.to_owned(),
        bytes: Box::new(bytes),
        expected,
    });
}

/// Fields of a POST, after which a chunked body ends at once and the hidden request follows.
fn fields(cases: &mut Vec<Case>, expected: &'static str, fields: &'static [&'static str]) {
    for field in fields {
        add(cases, &format!("{field:?}"), expected, move |hidden| {
            let head = format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
            let body = format!("0\r\n\r\n{hidden}");
            head.replace("LEN", &body.len().to_string())
                .into_bytes()
                .into_iter()
                .chain(body.into_bytes())
                .collect()
        });
    }
}

fn ambiguous_lengths(cases: &mut Vec<Case>) {
    fields(
        cases,
        FRAMING,
        &[
            // CL.TE and TE.CL.
            "Content-Length: LEN\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: LEN",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            // TE.TE: one server understands the field, the other does not.
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunkedx",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;a=b",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding:",
            // Not final, or not ours.
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: gzip",
            // Twice, lists, and numbers that are none.
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: LEN",
            "Content-Length: LEN\r\nContent-Length: 0",
            "Content-Length: 5, 5",
            "Content-Length: 5,LEN",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length: 5;",
            "Content-Length: 5.0",
            "Content-Length: 5e0",
            "Content-Length: 1_0",
            "Content-Length: \"5\"",
            "Content-Length:",
            "Content-Length: 18446744073709551621",
            "Content-Length: 1234567890123456789",
        ],
    );
    add(cases, "Transfer-Encoding in HTTP/1.0", FRAMING, |hidden| {
        let head = "POST /api/metrics HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n";
        format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}").into_bytes()
    });
}

fn malformed_fields(cases: &mut Vec<Case>) {
    fields(
        cases,
        HEADER,
        &[
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Content-Length : 5",
            " Content-Length: 5",
            "A: b\r\n Content-Length: 5",
            "A: b\r\n\tTransfer-Encoding: chunked",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: chunked\r\n , identity",
            "A: b\nContent-Length: 5",
            "A: b\n\nContent-Length: 5",
            "A: b\rContent-Length: 5",
            "A: b\r\rContent-Length: 5",
            "Transfer-Encoding: chunked\u{b}",
            "Transfer-Encoding:\u{b}chunked",
            "Transfer-Encoding: chunked\u{0}",
            "Transfer-Encoding\u{0}: chunked",
            "Content-Length: 5\u{0}",
            "Content-Length: 5\u{7f}",
            "Content\u{0}-Length: 5",
            // HAProxy CVE-2023-25725: a field without a name ended the list of fields.
            ": 5",
            ":",
            "Content-Length",
            "Content Length: 5",
            "Content-Length\u{e9}: 5",
            "(Content-Length): 5",
        ],
    );
    let bare = "POST /api/metrics HTTP/1.1\nHost: x\nContent-Length: 0\n\n";
    add(cases, "bare LF throughout", HEADER, move |hidden| {
        (bare.to_owned() + hidden).into_bytes()
    });
    add(cases, "bare LF at the head's end", HEADER, |hidden| {
        format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\n\r\n{hidden}").into()
    });
    add(cases, "LF LF at the head's end", HEADER, |hidden| {
        format!("POST /api/metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\n{hidden}").into()
    });
}

fn malformed_lines(cases: &mut Vec<Case>) {
    // Netty CVE-2026-50020: control bytes before a request line were skipped.
    for byte in [0x00, 0x01, 0x08, 0x09, 0x0b, 0x1b, 0x20, 0x7f, 0x80, 0xff] {
        let name = format!("byte {byte:#04x} before the request line");
        add(cases, &name, LINE, move |hidden| {
            [&[byte], hidden.as_bytes()].concat()
        });
    }
    for (name, start, expected) in [
        ("empty lines before the request line", "\r\n\r\n", LINE),
        ("LF before the request line", "\n", HEADER),
        ("CR before the request line", "\r", HEADER),
        ("HTTP/0.9", "GET /healthz\r\n\r\n", LINE),
        (
            "HTTP/1.2",
            "GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
            "505",
        ),
        (
            "http/1.1",
            "GET /healthz http/1.1\r\nHost: x\r\n\r\n",
            "505",
        ),
        (
            "HTTP/1.1 and a space",
            "GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n",
            HEADER,
        ),
        (
            "two spaces",
            "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            LINE,
        ),
        ("a tab", "GET\t/healthz HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
        ("asterisk", "GET * HTTP/1.1\r\nHost: x\r\n\r\n", LINE),
        (
            "CONNECT",
            "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
            LINE,
        ),
        (
            "relative target",
            "GET healthz HTTP/1.1\r\nHost: x\r\n\r\n",
            LINE,
        ),
        (
            "fragment",
            "GET /healthz#a HTTP/1.1\r\nHost: x\r\n\r\n",
            LINE,
        ),
        (
            "foreign scheme",
            "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            LINE,
        ),
        (
            "another host than Host",
            "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "400 bad_host",
        ),
        (
            "user before the host",
            "GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "400 bad_host",
        ),
        (
            "two Hosts",
            "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "400 bad_host",
        ),
        ("no Host", "GET /healthz HTTP/1.1\r\n\r\n", "400 bad_host"),
        (
            "Host with a path",
            "GET /healthz HTTP/1.1\r\nHost: x/y\r\n\r\n",
            "400 bad_host",
        ),
    ] {
        add(cases, name, expected, move |hidden| {
            (start.to_owned() + hidden).into_bytes()
        });
    }
}

/// A chunked body of which one server believes that it ends where the hidden request begins.
fn chunks(cases: &mut Vec<Case>) {
    for start in [
        // Kestrel CVE-2025-55315, h11 CVE-2025-43859: what ends a chunk extension?
        "0;\n\r\n",
        "0;a=b\r\n\r\n",
        "0;a\nb\r\n\r\n",
        "2;\nxx\r\n0\r\n\r\n",
        "2;a\rb\r\nxx\r\n0\r\n\r\n",
        ";\r\n\r\n",
        "0;\u{0}\r\n\r\n",
        // No size, or one that another server reads otherwise.
        "\r\n",
        "\r\n\r\n",
        "\n",
        "0x0\r\n\r\n",
        "+0\r\n\r\n",
        "-0\r\n\r\n",
        " 0\r\n\r\n",
        "0 \r\n\r\n",
        "0\t\r\n\r\n",
        "0_0\r\n\r\n",
        "00000000000000000\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\n",
        "10000000000000000\r\n\r\n",
        "g\r\n",
        // Line ends, TERM.EXT and the like.
        "0\n\r\n",
        "0\n\n",
        "0\r\r\n",
        "0\r\n\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\r0\r\n\r\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        // Trailers.
        "0\r\nA: b\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\nA\u{0}: b\r\n\r\n",
    ] {
        add(cases, &format!("chunks {start:?}"), CHUNK, move |hidden| {
            let head =
                "POST /api/metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{start}{hidden}").into_bytes()
        });
    }
}

fn expectations(cases: &mut Vec<Case>) {
    fields(
        cases,
        "417 bad_expectation",
        &[
            "Expect: 200-ok\r\nContent-Length: 5",
            "Expect: 100-continue, x\r\nContent-Length: 5",
            "Expect: y 100-continue\r\nContent-Length: 5",
            "Expect:\r\nContent-Length: 5",
            "Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5",
        ],
    );
}

/// Well-formed requests whose body is the hidden one, on methods and paths where servers forget to
/// read it: CL.0, 0.CL, TE.0. It is read, and the next request is answered.
fn swallowed(cases: &mut Vec<Case>) {
    let method = "405 method, 200 or 405 method";
    let syntax = "400 json_syntax, 200 or 100, 400 json_syntax, 200";
    let h2c = "Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (line, fields, expected) in [
        ("GET /healthz", "", "200, 200"),
        ("HEAD /healthz", "", "200, 200"),
        ("HEAD /api/none", "", "404, 200 or 404 or 404 not_found"),
        ("OPTIONS *", "", "204, 200"),
        ("OPTIONS /api/metrics", "", "204, 200"),
        ("GET /api/none", "", "404 not_found, 200 or 404 not_found"),
        ("TRACE /healthz", "", method),
        ("DELETE /api/metrics", "", method),
        ("CONNECT /healthz", "", method),
        ("POST /none", "Expect: 100-continue\r\n", method),
        ("POST /api/metrics", "", syntax),
        (
            "POST /api/metrics",
            "Connection: Content-Length\r\n",
            syntax,
        ),
        ("POST /api/metrics", h2c, syntax),
        ("POST /api/metrics", "Expect: 100-continue\r\n", syntax),
        (
            "GET /healthz",
            "Expect: 100-continue\r\n",
            "200, 200 or 100, 200, 200",
        ),
        ("GET /api/live", upgrade, "426 upgrade_required, 200"),
        ("GET http://x/healthz", "", "200, 200"),
    ] {
        for zero in ["", "000"] {
            let name = format!("{line}, {fields:?}, Content-Length: {zero}…");
            add(cases, &name, expected, move |hidden| {
                let length = hidden.len();
                let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}");
                format!("{head}Content-Length: {zero}{length}\r\n\r\n{hidden}").into_bytes()
            });
        }
        let name = format!("{line}, {fields:?}, chunked");
        // Only samples may come in chunks: elsewhere the head alone is refused.
        let expected = match line {
            "POST /api/metrics" => syntax,
            _ if expected.starts_with('4') && !expected.starts_with("426") => expected,
            "HEAD /healthz" => "413",
            _ => "413 body_too_large",
        };
        add(cases, &name, expected, move |hidden| {
            let size = hidden.len();
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{fields}");
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{hidden}\r\n0\r\n\r\n")
                .into_bytes()
        });
    }
}
