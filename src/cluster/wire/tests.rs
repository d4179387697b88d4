#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn seal() -> Seal {
    Seal::new(&[7; 32])
}

fn head(kind: Kind) -> Head<'static> {
    Head {
        kind,
        node: "node-a:8080",
        epoch: 1 << 60,
        seq: 12,
        mono_ms: 7_200_123,
        wall_ms: 1_763_918_083_000,
    }
}

fn kind_of(body: &Body) -> Kind {
    match body {
        Body::Delta(_) => Kind::Delta,
        Body::Keyframe(_) => Kind::Keyframe,
        Body::Stored { .. } => Kind::Stored,
        Body::Want { .. } => Kind::Want,
        Body::Bye => Kind::Bye,
    }
}

fn encoded(body: &Body) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&head(kind_of(body)), body, &seal(), &mut out);
    out
}

fn decoded(message: &[u8]) -> Result<Body, Fault> {
    let (head, body) = open(message, &seal())?;
    read_body(head.kind, body)
}

/// Servers that send ten metrics, with as many places as such values have.
fn cells(slots: u32, places: f64) -> Vec<Cell> {
    let cell = |column: Column, slot: Slot| {
        let value = f64::from((slot * 7 + u32::from(column) * 31) % 1_000) * 0.1 * places;
        Cell {
            column,
            slot,
            value: (value * places).round() / places,
            age_ms: 0,
        }
    };
    (0..10)
        .flat_map(|column| (0..slots).map(move |slot| cell(column, slot)))
        .collect()
}

fn picture() -> Picture {
    let tags = vec![
        ("dc".to_owned(), "fra".to_owned()),
        ("k".to_owned(), String::new()),
    ];
    Picture {
        hosts: vec![
            Host::Set {
                slot: 0,
                name: "web-1".into(),
                tags,
            },
            Host::Del {
                slot: HOSTS_MAX as Slot,
            },
        ],
        columns: vec![ColumnName {
            column: COLUMNS_MAX as Column,
            name: "d{a=1}".into(),
            unit: "%".into(),
        }],
        pulses: Vec::new(),
        cells: cells(100, 10.0),
    }
}

#[test]
fn every_kind_is_read_as_it_was_written() {
    let pulse = Pulse {
        slot: 3,
        age_ms: 1 << 40,
        interval_ms: 1_000,
    };
    let mut keyframe = Picture {
        pulses: vec![pulse],
        ..picture()
    };
    keyframe
        .cells
        .iter_mut()
        .for_each(|cell| cell.age_ms = cell.slot * 99);
    let bodies = [
        Body::Delta(picture()),
        Body::Delta(Picture::default()),
        Body::Keyframe(keyframe),
        Body::Stored { seq: u64::MAX },
        Body::Want { node: "b".into() },
        Body::Want {
            node: String::new(),
        },
        Body::Bye,
    ];
    for body in bodies {
        let message = encoded(&body);
        let (found, rest) = open(&message, &seal()).unwrap();
        assert_eq!(found, head(kind_of(&body)));
        assert_eq!(read_body(found.kind, rest), Ok(body));
    }
}

#[test]
fn values_come_out_bit_for_bit() {
    let values = [
        0.0,
        -0.0,
        0.1,
        53.2,
        -7.0001,
        1e15,
        9.1e18,
        f64::MIN_POSITIVE,
        f64::MAX,
        1.0 / 3.0,
        5e-324,
    ];
    for (at, value) in values.into_iter().enumerate() {
        for other in &values[at..] {
            let cell = |slot, value| Cell {
                column: 1,
                slot,
                value,
                age_ms: 0,
            };
            let cells = vec![cell(0, value), cell(9, *other)];
            let body = Body::Delta(Picture {
                cells: cells.clone(),
                ..Picture::default()
            });
            let Ok(Body::Delta(read)) = decoded(&encoded(&body)) else {
                panic!("{value} {other}");
            };
            let bits = |cells: &[Cell]| -> Vec<u64> {
                cells.iter().map(|cell| cell.value.to_bits()).collect()
            };
            assert_eq!(bits(&read.cells), bits(&cells));
        }
    }
}

/// The promise is 12 bytes at most; a fleet's usual values take far less.
#[test]
fn what_a_cell_costs() {
    let bytes = |cells: Vec<Cell>| {
        let count = cells.len();
        let picture = Picture {
            cells,
            ..Picture::default()
        };
        encoded(&Body::Delta(picture)).len() as f64 / count as f64
    };
    let tenths = bytes(cells(1_000, 10.0));
    assert!(tenths < 2.5, "{tenths}");
    let mut random = cells(1_000, 1.0);
    random
        .iter_mut()
        .for_each(|cell| cell.value = f64::from(cell.slot + 1).sqrt() + 1e-9);
    let worst = bytes(random);
    assert!(worst < 8.3, "{worst}");
    let lone = bytes(cells(10_000, 3.0).into_iter().step_by(997).collect());
    assert!(lone < 12.0, "{lone}");
}

#[test]
fn what_is_not_of_this_cluster_is_refused() {
    let message = encoded(&Body::Delta(picture()));
    assert_eq!(open(&message, &Seal::new(&[8; 32])), Err(Fault::Forged));
    assert_eq!(open(&message[..20], &seal()), Err(Fault::Malformed));
    assert_eq!(open(b"", &seal()), Err(Fault::Malformed));
    let mut other = message.clone();
    other[2] = VERSION + 1;
    assert_eq!(open(&other, &seal()), Err(Fault::Version));
    for bit in 0..message.len() * 8 {
        let mut damaged = message.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&damaged, &seal()).is_err(), "bit {bit}");
    }
}

#[test]
fn sizes_are_bounded() {
    let sealed = |kind: Kind, bytes: usize| {
        let mut message = Vec::new();
        encode(&head(kind), &Body::Bye, &seal(), &mut message);
        message.truncate(message.len() - SEAL_BYTES);
        message.resize(bytes - SEAL_BYTES, 0);
        let end = seal().of(&message);
        message.extend_from_slice(&end);
        open(&message, &seal()).map(|_| ())
    };
    assert_eq!(sealed(Kind::Delta, CLUSTER_MESSAGE_BYTES_MAX), Ok(()));
    assert_eq!(
        sealed(Kind::Delta, CLUSTER_MESSAGE_BYTES_MAX + 1),
        Err(Fault::Oversized)
    );
    assert_eq!(sealed(Kind::Keyframe, CLUSTER_KEYFRAME_BYTES_MAX), Ok(()));
    assert_eq!(
        sealed(Kind::Keyframe, CLUSTER_KEYFRAME_BYTES_MAX + 1),
        Err(Fault::Oversized)
    );
}

#[test]
fn node_names_are_plain() {
    assert!(is_node_name("web-1.fra:8080") && is_node_name(&"x".repeat(CLUSTER_NODE_BYTES_MAX)));
    let long = "x".repeat(CLUSTER_NODE_BYTES_MAX + 1);
    for name in ["", "a b", "a/b", "{a}", "ä", &long] {
        assert!(!is_node_name(name), "{name}");
    }
}

fn any_picture() -> impl Strategy<Value = Picture> {
    let value = prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
        (-1_000_000..1_000_000_i32, 0..7_i32).prop_map(|(m, e)| f64::from(m) / 10_f64.powi(e)),
    ];
    let cell = (0..4_u16, 0..40_u32, value, 0..100_000_u32);
    prop::collection::btree_map((0..4_u16, 0..40_u32), cell, 0..80).prop_map(|cells| {
        let cell = |((column, slot), (_, _, value, age_ms))| Cell {
            column,
            slot,
            value,
            age_ms,
        };
        Picture {
            cells: cells.into_iter().map(cell).collect(),
            ..picture()
        }
    })
}

proptest! {
    #[test]
    fn pictures_are_read_as_they_were_written(picture in any_picture()) {
        let body = Body::Keyframe(picture);
        prop_assert_eq!(decoded(&encoded(&body)), Ok(body));
    }

    /// Whoever has the key may still err.
    #[test]
    fn no_body_leads_astray(
        mut body in prop::collection::vec(any::<u8>(), 0..300),
        kind in prop_oneof![Just(Kind::Delta), Just(Kind::Keyframe), Just(Kind::Want)],
        (at, byte) in (any::<prop::sample::Index>(), any::<u8>()),
        damage in any::<bool>(),
    ) {
        if damage {
            let message = encoded(&Body::Keyframe(picture()));
            body = open(&message, &seal()).unwrap().1.to_vec();
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(Body::Keyframe(picture) | Body::Delta(picture)) = read_body(kind, &body) {
            prop_assert!(picture.cells.len() <= body.len());
            prop_assert!(picture.cells.iter().all(|cell| cell.value.is_finite()));
        }
    }
}
