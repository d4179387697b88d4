#![allow(clippy::unwrap_used)]
use super::*;
use crate::frame::view::Func;
use crate::history::rig::{Rig, T0};

/// Four hosts that send each second for three minutes, of which the store has two; `d` is in no
/// group.
fn filled(name: &str) -> (Rig, Hosts) {
    let mut rig = Rig::new(name);
    for (slot, (host, dc, role)) in (0..).zip([
        ("a", "fra", "web"),
        ("b", "ber", "web"),
        ("c", "fra", "db"),
        ("d", "", "web"),
    ]) {
        assert_eq!(rig.lookup.host(host), slot);
        let tags = [("dc", dc), ("role", role)].into_iter();
        rig.lookup
            .tags(slot, tags.filter(|(_, value)| !value.is_empty()));
    }
    for second in 0..180 {
        if second == 120 {
            rig.write();
        }
        for (host, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            rig.add(name, "cpu", second * 1_000, value(host, second));
        }
    }
    let mut hosts = Hosts::new(rig.catalog.clone());
    hosts.refresh();
    (rig, hosts)
}

fn value(host: usize, second: i64) -> f64 {
    ((host as i64 + 1) * 100 + second * 7 % 90) as f64
}

fn question(exprs: &[Func], by: Option<&str>, filter: &str, from_s: i64, to_s: i64) -> Lines {
    let expr = |&func: &Func| Expr {
        func,
        metric: "cpu".into(),
    };
    Lines {
        exprs: exprs.iter().map(expr).collect(),
        by: by.map(str::to_owned),
        filter: Filter::parse(filter).ok(),
        from_ms: T0 + from_s * 1_000,
        to_ms: T0 + to_s * 1_000,
    }
}

/// What these hosts show in a step, by the functions that the live wall has.
fn expected(func: Func, hosts: &[usize], step: i64) -> f64 {
    let last = step * 10 + 9;
    let mut keys: Vec<Key> = hosts.iter().map(|&host| key(value(host, last))).collect();
    evaluate(func, &mut keys)
}

fn check(rig: &Rig, hosts: &Hosts, by: Option<&str>, filter: &str, groups: &[(&str, &[usize])]) {
    let funcs = [Func::P50, Func::Avg, Func::Max, Func::Count, Func::Sum];
    let asked = question(&funcs, by, filter, 0, 180);
    let lines = of_chosen(&asked, hosts, &rig.desk, &rig.dir).unwrap();
    let told = lines.iter().map(|line| (line.expr, line.group.as_deref()));
    let names = (0..funcs.len()).flat_map(|expr| groups.iter().map(move |group| (expr, group.0)));
    let names = names.map(|(expr, name)| (expr, by.map(|_| name)));
    assert_eq!(told.collect::<Vec<_>>(), names.collect::<Vec<_>>());
    for (line, (_, of)) in lines.iter().zip(groups.iter().cycle()) {
        assert_eq!(line.values.len(), 18);
        for (step, &told) in (0..).zip(&line.values) {
            let expected = expected(funcs[line.expr], of, step);
            assert_eq!(told, expected, "{:?} {step}", line.group);
        }
    }
}

#[test]
fn lines_of_chosen_hosts_are_those_of_the_live_wall() {
    let (mut rig, hosts) = filled("lines-chosen");
    for is_stored in [false, true] {
        if is_stored {
            rig.write();
        }
        check(&rig, &hosts, None, "role=web", &[("", &[0, 1, 3])]);
        check(
            &rig,
            &hosts,
            Some("dc"),
            "",
            &[("fra", &[0, 2]), ("ber", &[1])],
        );
        let web: [(&str, &[usize]); 2] = [("ber", &[1]), ("fra", &[0])];
        check(&rig, &hosts, Some("dc"), "role=web", &web);
        check(&rig, &hosts, Some("rack"), "", &[]);
    }
    let nobody = question(&[Func::Count], None, "role=none", 0, 60);
    let lines = of_chosen(&nobody, &hosts, &rig.desk, &rig.dir).unwrap();
    assert!(lines[0].values.iter().all(|value| value.is_nan()));
    let later = question(&[Func::Max], None, "host=d", 170, 240);
    let lines = of_chosen(&later, &hosts, &rig.desk, &rig.dir).unwrap();
    assert_eq!(lines[0].values[0], value(3, 179));
    assert!(lines[0].values[1..].iter().all(|value| value.is_nan()));
}

/// A host that sends each half minute had two of three steps empty.
#[test]
fn who_sends_seldom_stands_as_long_as_on_the_live_wall() {
    let mut rig = Rig::new("lines-seldom");
    for (slot, host) in (0..).zip(["fast", "slow"]) {
        rig.lookup.host(host);
        rig.lookup.tags(slot, [("dc", "fra")].into_iter());
    }
    for second in 0..900 {
        rig.add("fast", "cpu", second * 1_000, 1.0);
        if second % 30 == 7 && second < 300 {
            rig.add("slow", "cpu", second * 1_000, 5.0);
        }
    }
    let mut hosts = Hosts::new(rig.catalog.clone());
    hosts.refresh();
    for is_stored in [false, true] {
        if is_stored {
            rig.write();
        }
        let asked = question(&[Func::Count, Func::Max], None, "dc=fra", 0, 900);
        let lines = of_chosen(&asked, &hosts, &rig.desk, &rig.dir).unwrap();
        // Its last was at 277 s; ten half minutes later are 577 s.
        let both = lines[0].values.iter().rposition(|&count| count == 2.0);
        assert_eq!(both, Some(56));
        assert!(lines[0].values[..57].iter().all(|&count| count == 2.0));
        assert!(lines[0].values[57..].iter().all(|&count| count == 1.0));
        assert_eq!((lines[1].values[56], lines[1].values[57]), (5.0, 1.0));
        // From the middle on: what stood before is known.
        let asked = question(&[Func::Count], None, "dc=fra", 310, 330);
        let lines = of_chosen(&asked, &hosts, &rig.desk, &rig.dir).unwrap();
        assert_eq!(lines[0].values, [2.0, 2.0]);
    }
}

#[test]
fn of_too_many_hosts_the_latest_minutes_are_read() {
    let hour = question(&[Func::Avg], None, "", 0, 3_600);
    let minute = minute_of(T0).0;
    let minutes = |series| {
        let (minutes, warm) = hour.minutes(series);
        (minutes.start() - minute, minutes.end() - minute, warm)
    };
    assert_eq!(minutes(0), (-10, 59, 10));
    assert_eq!(minutes(PAST_ROWS_MAX / 70), (-10, 59, 10));
    assert_eq!(minutes(PAST_ROWS_MAX / 70 + 1), (-9, 59, 10));
    assert_eq!(minutes(PAST_ROWS_MAX), (49, 59, 10));
}
