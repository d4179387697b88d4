//! History on its way to MySQL: whatever happens to the way or to the database, each row is there
//! once in the end, and bit by bit what the embedded store has.

mod data;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tidewall::clock::wall_ms;
use tidewall::history::mysql::read::Reader;
use tidewall::history::mysql::{Client, MysqlError, Target, migrate, partitions};
use tidewall::history::{metric_key, series_key};

use crate::mariadb::{Mariadb, block_on};
use crate::proxy::{Fault, Proxy};
use crate::support::Random;
use data::{Site, assert_same, base_minute, missing};

/// Longer than a half-open connection takes to be noticed, and the wait after it.
const PATIENCE: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn patiently(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Of what is left to chance; another one for every run that looks for what this one misses.
fn seed() -> u64 {
    let asked = std::env::var("TIDEWALL_SHIP_SEED").ok();
    asked.map_or(7, |seed| seed.parse().unwrap())
}

fn proxy_to(server: &Mariadb) -> Proxy {
    Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port())))
}

#[test]
fn what_is_stored_arrives_bit_by_bit() {
    let server = Mariadb::start(&[]);
    let mut site = Site::new("bits");
    // Across midnight: two days' files.
    let midnight = base_minute().div_euclid(1_440) * 1_440;
    site.fill(midnight - 3..midnight + 3, 40, 1);
    site.extremes(midnight + 4);
    let shipper = site.ship(&server.url(server.port(), "wall"));
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    // What comes late changes rows that are there.
    site.fill(midnight - 2..midnight + 2, 25, 2);
    shipper.wake(site.flush());
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    let status = shipper.status();
    assert_eq!(status.errors.load(Relaxed), 0, "{:?}", status.last_error());
    assert!(status.is_connected.load(Relaxed));
    shipper.stop();
    // Nothing is sent twice, and what was left is sent before a stop ends.
    site.fill(midnight + 5..midnight + 6, 10, 3);
    let shipper = site.ship(&server.url(server.port(), "wall"));
    site.await_shipped(&shipper);
    let rows = shipper.status().rows.load(Relaxed);
    assert!(rows < 200, "only the new flush: {rows}");
    site.fill(midnight + 6..midnight + 7, 10, 4);
    shipper.wake(site.flush());
    shipper.stop();
    assert_same(&[&site], &server, "wall");
}

#[test]
fn nodes_write_the_same_series_side_by_side_and_all_is_read() {
    let server = Mariadb::start(&[]);
    let url = server.url(server.port(), "wall");
    let mut sites = [Site::new("side-a"), Site::new("side-b")];
    let first = base_minute();
    for (at, site) in sites.iter_mut().enumerate() {
        site.fill(first..first + 200, 6, at as u64);
    }
    let shippers = [0, 1].map(|at| sites[at].ship(&url));
    for (site, shipper) in sites.iter().zip(&shippers) {
        site.await_shipped(shipper);
    }
    assert_same(&[&sites[0], &sites[1]], &server, "wall");
    let series = series_key("web-3", "cpu");
    let (rows, steps) = block_on(async {
        let mut reader = Reader::new(Target::parse(&url).unwrap());
        let until = Instant::now() + SOON;
        let range = first - 5..first + 205;
        let rows = reader.rows(series, 0, range, until).await.unwrap();
        let none = reader.rows(7, 0, first..first + 1, until).await.unwrap();
        assert!(none.is_empty());
        assert!(
            reader
                .rows(series, 0, first..first, until)
                .await
                .unwrap()
                .is_empty()
        );
        let steps = first * 6..(first + 200) * 6;
        let steps = reader
            .fleet(metric_key("cpu"), 0, steps, until)
            .await
            .unwrap();
        reader.close().await;
        (rows, steps)
    });
    assert!(rows.is_sorted_by_key(|row| row.minute));
    for site in &sites {
        let own = site.rows().into_iter().filter(|row| row.series == series);
        let own: Vec<_> = own.collect();
        assert_eq!(own.len(), 200);
        assert!(own.iter().all(|row| rows.contains(row)));
        let own = site.fleet().into_iter();
        let mut own = own.filter(|row| row.metric == metric_key("cpu"));
        assert!(own.all(|row| steps.contains(&row)));
    }
    assert_eq!(rows.len(), 400);
    for shipper in shippers {
        shipper.stop();
    }
}

#[test]
fn a_database_that_comes_late_costs_lag_only() {
    let mut server = Mariadb::start(&[]);
    server.kill();
    let mut site = Site::new("late");
    let first = base_minute();
    site.fill(first..first + 2, 20, 1);
    let shipper = site.ship(&server.url(server.port(), "wall"));
    let status = shipper.status();
    patiently("a failure", || status.errors.load(Relaxed) != 0);
    assert!(!status.is_connected.load(Relaxed) && status.last_error().is_some());
    site.fill(first + 2..first + 4, 20, 2);
    shipper.wake(site.flush());
    let ages = [0, 60_000].map(|later_ms| status.lag_ms(wall_ms() + later_ms));
    assert!(60_000 <= ages[1] && ages[0] < ages[1], "{ages:?}");
    server.restart();
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    assert_eq!(shipper.status().lag_ms(wall_ms()), 0);
    shipper.stop();
}

#[test]
fn cuts_in_the_middle_of_packets_lose_and_double_nothing() {
    let server = Mariadb::start(&[]);
    let proxy = proxy_to(&server);
    let mut site = Site::new("cuts");
    let first = base_minute();
    for minute in first..first + 60 {
        site.fill(minute..minute + 1, 40, minute as u64);
    }
    let mut random = Random(seed());
    proxy.set(Fault::CutAfter(100));
    let shipper = site.ship(&server.url(proxy.address().port(), "wall"));
    let (mut cuts, mut writes) = (0, 0);
    patiently("all rows, through cuts", || {
        // The store goes on meanwhile, often with what is late.
        if writes < 20 && random.below(3) == 0 {
            let minute = first + random.below(70) as i64;
            site.fill(minute..minute + 1, 40, random.next());
            shipper.wake(site.flush());
            writes += 1;
        }
        if proxy.is_sound() {
            cuts += 1;
            proxy.set(Fault::CutAfter(random.below(120_000) as usize));
        }
        // Now and then all connections, from both ends.
        if random.below(50) == 0 {
            proxy.reset();
        }
        writes == 20 && site.is_shipped(&shipper)
    });
    assert_same(&[&site], &server, "wall");
    assert!(3 < cuts, "{cuts} cuts");
    assert!(shipper.status().errors.load(Relaxed) != 0);
    shipper.stop();
}

/// Nobody hears that the way is gone: neither an end nor an answer comes.
#[test]
fn a_half_open_connection_is_noticed() {
    let server = Mariadb::start(&[]);
    let proxy = proxy_to(&server);
    let mut site = Site::new("half");
    let first = base_minute();
    site.fill(first..first + 1, 20, 1);
    let shipper = site.ship(&server.url(proxy.address().port(), "wall"));
    site.await_shipped(&shipper);
    proxy.set(Fault::Swallow);
    site.fill(first + 1..first + 2, 20, 2);
    shipper.wake(site.flush());
    let status = shipper.status();
    patiently("the silence to be noticed", || {
        status.errors.load(Relaxed) != 0
    });
    let error = status.last_error().unwrap();
    assert!(error.contains("no answer within"), "{error}");
    proxy.set(Fault::Delay(Duration::from_millis(5)));
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    shipper.stop();
}

#[test]
fn a_frozen_database_costs_lag_and_a_reader_its_deadline() {
    let server = Mariadb::start(&[]);
    let url = server.url(server.port(), "wall");
    let mut site = Site::new("frozen");
    let first = base_minute();
    site.fill(first..first + 1, 20, 1);
    let shipper = site.ship(&url);
    site.await_shipped(&shipper);
    let mut reader = Reader::new(Target::parse(&url).unwrap());
    let mut ask = |limit_ms| {
        let key = series_key("web-3", "cpu");
        let until = Instant::now() + Duration::from_millis(limit_ms);
        // Each within a runtime of its own, so that what one leaves behind ends with it.
        let rows = block_on(reader.rows(key, 0, first..first + 1, until));
        block_on(reader.close());
        rows
    };
    assert_eq!(ask(20_000).unwrap().len(), 1);
    server.freeze();
    site.fill(first + 1..first + 2, 20, 2);
    shipper.wake(site.flush());
    assert!(matches!(ask(200), Err(MysqlError::Timeout(_))));
    let status = shipper.status();
    patiently("the silence to be noticed", || {
        status.errors.load(Relaxed) != 0
    });
    server.thaw();
    site.await_shipped(&shipper);
    assert_eq!(ask(20_000).unwrap().len(), 1);
    assert_same(&[&site], &server, "wall");
    // A stop does not wait for it.
    server.freeze();
    site.fill(first + 2..first + 3, 20, 3);
    shipper.wake(site.flush());
    shipper.stop();
}

#[test]
fn kills_in_the_middle_of_inserts_lose_and_double_nothing() {
    let mut server = Mariadb::start(&[]);
    let mut site = Site::new("kills");
    let first = base_minute();
    // Each write is several batches: it is there in part when the end comes.
    for minute in first..first + 4 {
        site.fill(minute..minute + 1, 10_000, minute as u64);
    }
    let all = missing(&site, &server, "wall");
    let shipper = site.ship(&server.url(server.port(), "wall"));
    let mut random = Random(seed());
    for kill in 1..=6 {
        let rows = || shipper.status().rows.load(Relaxed);
        let enough = rows() + 1 + random.below(all as u64 / 10);
        patiently("rows to be in the middle of", || enough <= rows());
        server.kill();
        let errors = || shipper.status().errors.load(Relaxed);
        let before = errors();
        patiently("the end to be noticed", || before < errors());
        server.restart();
        let there = server.select::<(i64,)>("SELECT COUNT(*) FROM wall.minutes")[0].0;
        assert!(there < all as i64, "kill {kill} came after the end");
    }
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    shipper.stop();
}

#[test]
fn deadlocks_and_lock_waits_are_gone_through_again() {
    let server = Mariadb::start(&[]);
    let mut site = Site::new("locks");
    let first = base_minute();
    site.fill(first..first + 1, 100, 1);
    let shipper = site.ship(&server.url(server.port(), "wall"));
    site.await_shipped(&shipper);
    server.run("CREATE TABLE wall.weight (a INT) ENGINE = InnoDB");
    let keys = server.select::<(i64,)>("SELECT series FROM wall.minutes ORDER BY series");
    let (low, high) = (keys[0].0, keys[keys.len() - 1].0);
    let status = shipper.status();
    let retries = || status.retries.load(Relaxed);
    // By the whole key, or every row would be locked.
    let lock = |series: i64| {
        let key = format!(
            "minute = {first} AND series = {series} AND node = {}",
            site.node
        );
        format!("SELECT * FROM minutes WHERE {key} FOR UPDATE")
    };
    let (lock_low, lock_high) = (lock(low), lock(high));
    let mut other = server.client();
    // Whoever has changed more is spared: that is this client.
    other.run("START TRANSACTION");
    other.run("INSERT INTO weight SELECT seq FROM seq_1_to_20000");
    other.run(&lock_high);
    // Late samples of every row: the shipper is stuck at the last one, with the first locked.
    site.fill(first..first + 1, 100, 2);
    shipper.wake(site.flush());
    // Not `innodb_lock_waits`, which who asks often is shown from a cache.
    let counter = |name: &str| {
        let sql = format!(
            "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status
             WHERE variable_name = '{name}'"
        );
        server.select::<(i64,)>(&sql)[0].0
    };
    patiently("the shipper to wait", || {
        counter("Innodb_row_lock_current_waits") != 0
    });
    other.run(&lock_low);
    assert_ne!(counter("Innodb_deadlocks"), 0);
    patiently("it to be noticed", || retries() != 0);
    // And now longer than it may wait for a lock.
    let before = retries();
    patiently("a lock wait timeout", || before < retries());
    other.run("ROLLBACK");
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    assert_eq!(status.errors.load(Relaxed), 0, "{:?}", status.last_error());
    shipper.stop();
}

/// MySQL knows how far it is, not we.
#[test]
fn another_or_an_emptied_database_gets_everything() {
    let server = Mariadb::start(&[]);
    let mut site = Site::new("emptied");
    let first = base_minute();
    site.fill(first..first + 3, 20, 1);
    let shipper = site.ship(&server.url(server.port(), "wall"));
    site.await_shipped(&shipper);
    for table in ["minutes", "fleet", "series", "metrics", "nodes"] {
        server.run(&format!("TRUNCATE TABLE wall.{table}"));
    }
    site.fill(first + 3..first + 4, 20, 2);
    shipper.wake(site.flush());
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    shipper.stop();
    let shipper = site.ship(&server.url(server.port(), "wall2"));
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall2");
    shipper.stop();
}

#[test]
fn every_minute_finds_a_place_and_old_days_go() {
    let server = Mariadb::start(&[]);
    let url = server.url(server.port(), "wall");
    let target = Target::parse(&url).unwrap();
    let today = wall_ms().div_euclid(86_400_000);
    let care = |day: i64, keep_days| {
        block_on(async {
            let mut client = Client::connect(&target, SOON).await.unwrap();
            let now_ms = day * 86_400_000 + 3_600_000;
            let care = partitions::care(&mut client, now_ms, keep_days).await;
            client.close().await;
            care.unwrap()
        })
    };
    block_on(migrate::migrate(&url)).unwrap();
    // A clock that is behind, the database's or ours, makes nothing of days that have not come.
    let made = care(today - 60, None).made;
    let made_anew = care(today - 50, None).made;
    assert_eq!((made, made_anew), (2 * 34, 2 * 10));
    let mut site = Site::new("days");
    // Before all partitions, within them, and past their end.
    let days = [1, today - 120, today - 55, today - 2, today, today + 4_000];
    for day in days {
        site.fill(day * 1_440..day * 1_440 + 1, 3, day as u64);
    }
    let shipper = site.ship(&url);
    site.await_shipped(&shipper);
    assert_same(&[&site], &server, "wall");
    shipper.stop();
    // The shipper has made the days up to now; what was in their place has moved into them.
    let partition = |day: i64| {
        let sql = format!(
            "SELECT COUNT(*) FROM wall.minutes WHERE minute = {}",
            day * 1_440
        );
        server.select::<(i64,)>(&sql)[0].0
    };
    assert_eq!(care(today, Some(30)).made, 0);
    let left: Vec<i64> = days.into_iter().filter(|&day| 0 < partition(day)).collect();
    assert_eq!(left, [today - 2, today, today + 4_000]);
    let names = server.select::<(i64,)>("SELECT MIN(day) FROM wall.series");
    assert!(today - 30 <= names[0].0);
    assert_eq!(care(today, Some(30)), partitions::Care::default());
}

#[test]
fn migrations_are_applied_once_and_never_guessed_at() {
    let server = Mariadb::start(&[]);
    let url = server.url(server.port(), "wall");
    // Several nodes at their first start, and one of them was cut off before.
    server.run("CREATE TABLE wall.nodes (node BIGINT NOT NULL PRIMARY KEY, flush BIGINT NOT NULL)");
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || block_on(migrate::migrate(&url)).unwrap().len())
        })
        .collect();
    let applied: Vec<usize> = starts.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(applied.iter().sum::<usize>(), 4, "{applied:?}");
    assert!(block_on(migrate::migrate(&url)).unwrap().is_empty());
    server.run("UPDATE wall.schema_migrations SET checksum = '' WHERE number = 2");
    let error = block_on(migrate::migrate(&url)).unwrap_err();
    assert!(matches!(error, MysqlError::Changed(2)), "{error}");
    server.run("INSERT INTO wall.schema_migrations VALUES (9, 'x', '', NOW())");
    let error = block_on(migrate::migrate(&url)).unwrap_err();
    assert!(matches!(error, MysqlError::Newer(9)), "{error}");
}

#[test]
fn the_way_can_be_enciphered() {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let site = Site::new("tls");
    let (cert, key) = (site.dir().join("cert.pem"), site.dir().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let flags = [
        format!("--ssl-cert={}", cert.display()),
        format!("--ssl-key={}", key.display()),
        "--require-secure-transport".to_owned(),
    ];
    let server = Mariadb::start(&flags.each_ref().map(String::as_str));
    let url = server.url(server.port(), "wall");
    assert!(block_on(migrate::migrate(&url)).is_err(), "in clear");
    let doubted = block_on(migrate::migrate(&format!("{url}?require_ssl=true"))).unwrap_err();
    assert!(doubted.to_string().contains("certificate"), "{doubted}");
    let trusting = format!("{url}?require_ssl=true&verify_ca=false&verify_identity=false");
    assert_eq!(block_on(migrate::migrate(&trusting)).unwrap().len(), 4);
}
