//! Property tests: the decoder and the reference must say the same of any body.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::reference::compare;

const NOW_MS: i64 = 1_763_918_083_000;

/// JSON text in pieces of the grammar; whitespace and escapes come at random.
fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "", "", "", " ", "\n", "\t", "\r\n", "  "])
}

fn key() -> impl Strategy<Value = String> {
    let known = select(vec![
        "host",
        "server",
        "server_name",
        "server_id",
        "time",
        "timestamp",
        "sent_at",
        "seq",
        "ack",
        "tags",
        "unit",
        "metrics",
        "metric_type",
        "value",
    ]);
    let names = select(vec![
        "cpu",
        "mem",
        "disk.used{device=sda}",
        "a{b}",
        "a{b=c,d=e}",
        "",
        "ü",
        "cpu\\u007b",
        "\\u0063pu",
        "c\\u0070u",
        "h\\u006fst",
        "a\\tb",
        "\\ud83d\\ude00",
        "\\ud83d",
        "eight888",
        "sixteen_letters_",
        "x\u{7f}",
    ]);
    prop_oneof![
        3 => known.prop_map(String::from),
        3 => names.prop_map(String::from),
        1 => "[a-e]{1,2}",
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    let fixed = select(vec![
        "0",
        "-0",
        "1",
        "7.0",
        "53.2",
        "-1",
        "1e3",
        "1e999",
        "1763918083000",
        "1763918083000.0",
        "1763918683000",
        "1763918683001",
        "9999999999999",
        "18446744073709551615",
        "18446744073709551616",
        "9007199254740993",
        "01",
        "1.",
        "null",
        "true",
        "\"web-1\"",
        "\"\"",
        "\"%\"",
        "\"\\u00e9\"",
        "\"a\\nb\"",
        "\"ünï\"",
        "\"cpu\"",
        "\"a{b=c}\"",
    ]);
    prop_oneof![
        4 => fixed.prop_map(String::from),
        1 => any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(|x| x.to_string()),
        1 => any::<i64>().prop_map(|x| x.to_string()),
        1 => r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        1 => "[ -~]{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap_or_default()),
    ]
}

fn object(members: Vec<(String, String, &'static str)>) -> String {
    let members: Vec<String> = members
        .into_iter()
        .map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}{space}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn value() -> impl Strategy<Value = String> {
    let member = || (key(), scalar(), space());
    prop_oneof![
        5 => scalar(),
        2 => vec(member(), 0..5).prop_map(object),
        1 => vec(scalar(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
    ]
}

/// Mostly refused: keys and values at random.
fn wild() -> impl Strategy<Value = String> {
    vec((key(), value(), space()), 0..6).prop_map(object)
}

/// Mostly accepted: the three shapes, with members in any order.
fn tame() -> impl Strategy<Value = String> {
    let number = || prop_oneof![scalar(), any::<f32>().prop_map(|x| format!("{x}"))];
    let host = prop_oneof![
        Just(("host".into(), "\"web-1\"".into(), "")),
        Just(("server_id".into(), "17".into(), " ")),
        Just(("server_name".into(), "\"w\\u00e9b\"".into(), "\n")),
        ("server|host".prop_map(String::from), scalar(), space()),
    ];
    let extras = || {
        vec(
            prop_oneof![
                Just(("time".into(), "1763918083000".into(), "")),
                Just(("seq".into(), "18446744073709551615".into(), "")),
                Just(("sent_at".into(), "1.763918083e12".into(), "")),
                Just(("ack".into(), "\"durable\"".into(), "")),
                Just((
                    "tags".into(),
                    "{\"dc\":\"fra\",\"r\\u00f4le\":\"\"}".into(),
                    ""
                )),
                (key(), scalar(), space()),
            ],
            0..3,
        )
    };
    let metrics = || vec(("[a-z]{1,9}", number(), space()), 1..40);
    let flat = metrics();
    let full = metrics().prop_map(|members| vec![("metrics".into(), object(members), " ")]);
    let single = (scalar(), scalar()).prop_map(|(metric, value)| {
        vec![
            ("metric_type".into(), metric, ""),
            ("value".into(), value, ""),
        ]
    });
    (host, prop_oneof![flat, full, single], extras())
        .prop_map(|(host, body, extras)| [vec![host], body, extras].concat())
        .prop_shuffle()
        .prop_map(object)
}

fn document() -> impl Strategy<Value = String> {
    prop_oneof![tame(), wild()]
}

fn array() -> impl Strategy<Value = String> {
    (vec(document(), 0..4), space())
        .prop_map(|(documents, space)| format!("{space}[{space}{}]{space}", documents.join(",")))
}

fn lines() -> impl Strategy<Value = String> {
    let ends = vec(select(vec!["\n", "\r\n", "\n\n", " \n \n", ""]), 4);
    (vec(tame(), 0..4), ends).prop_map(|(documents, ends)| {
        documents
            .into_iter()
            .zip(ends)
            .map(|(document, end)| document + end)
            .collect()
    })
}

/// One wound: a byte changed, taken, put in or all after it lost.
fn wound(mut body: Vec<u8>, (place, kind, byte): (prop::sample::Index, u8, u8)) -> Vec<u8> {
    if body.is_empty() {
        return body;
    }
    let at = place.index(body.len());
    match kind {
        0 => body[at] = byte,
        1 => drop(body.remove(at)),
        2 => body.insert(at, byte),
        _ => body.truncate(at),
    }
    body
}

fn wounded() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        select(b"{}[]\",:\\ \n\t\r0123456789+-.eEutfnl\0\x7f\x80\xc2\xff".to_vec())
    ];
    let wounds = vec((any::<prop::sample::Index>(), 0..4u8, byte), 1..3);
    let body = prop_oneof![document(), array(), lines()].prop_map(String::into_bytes);
    (body, wounds).prop_map(|(body, wounds)| wounds.into_iter().fold(body, wound))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn documents_agree(body in document()) {
        compare(body.as_bytes(), NOW_MS, false);
        compare(body.as_bytes(), NOW_MS, true);
    }

    #[test]
    fn arrays_agree(body in array()) {
        compare(body.as_bytes(), NOW_MS, false);
    }

    #[test]
    fn lines_agree(body in lines()) {
        compare(body.as_bytes(), NOW_MS, true);
        compare(body.as_bytes(), NOW_MS, false);
    }

    #[test]
    fn wounded_bodies_agree(body in wounded()) {
        compare(&body, NOW_MS, false);
        compare(&body, NOW_MS, true);
    }

    #[test]
    fn any_bytes_agree(body in vec(any::<u8>(), 0..40)) {
        compare(&body, NOW_MS, false);
        compare(&body, NOW_MS, true);
    }
}
