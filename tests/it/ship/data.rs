//! A node's embedded store with made-up history in it, and what MySQL should have of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use rusqlite::Connection;
use tidewall::clock::wall_ms;
use tidewall::history::journal::Position;
use tidewall::history::mysql::Target;
use tidewall::history::recent::Recent;
use tidewall::history::ship::{Settings, Shipper};
use tidewall::history::sqlite::{self, Store};
use tidewall::history::{FleetRow, Rollup, Row, SeriesName, node};

use super::patiently;
use crate::mariadb::Mariadb;
use crate::support::Random;

/// Some hours ago: its days have partitions, and are not the only ones.
pub(super) fn base_minute() -> i64 {
    wall_ms().div_euclid(60_000) - 300
}

pub(super) struct Site {
    dir: PathBuf,
    store: Store,
    recent: Recent,
    position: u32,
    pub(super) node: i64,
}

impl Site {
    pub(super) fn new(name: &str) -> Site {
        let name = format!("tidewall-ship-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let store = Store::open(&dir).unwrap();
        let node = node::load(&dir).unwrap();
        Site {
            dir,
            store,
            recent: Recent::default(),
            position: 0,
            node,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Each host sends two metrics, some points a minute; all is one write of the store.
    pub(super) fn fill(&mut self, minutes: Range<i64>, hosts: u64, seed: u64) {
        let mut random = Random(seed);
        for host in 0..hosts {
            for (metric, unit) in [("cpu", "%"), ("disk.used{device=sda}", "")] {
                let name = SeriesName::new(&format!("web-{host}"), metric, unit);
                let index = self.recent.index(&name);
                for minute in minutes.clone() {
                    for _ in 0..1 + random.below(6) {
                        let value = random.next() as f64 / 1e3_f64.powi(random.below(8) as i32);
                        let offset_ms = random.below(60_000) as u16;
                        self.recent.add(index, minute, offset_ms, value, false);
                    }
                }
            }
        }
        self.write();
    }

    /// What is apt to be lost on the way: doubles at the edges, names that elsewhere are compared
    /// by more than their bytes.
    pub(super) fn extremes(&mut self, minute: i64) {
        let values = [
            -0.0,
            5e-324,
            -2.2e-308,
            f64::MAX,
            f64::MIN,
            f64::EPSILON,
            0.1 + 0.2,
            1e16 + 2.0,
        ];
        let hosts = [
            "a",
            "A",
            "a ",
            "ä",
            "A\u{308}",
            "🌊",
            "it's",
            "back\\slash",
            "\"",
            "nul\0",
            "%_",
            "?",
        ];
        let long = "é".repeat(126);
        let metric = "m".repeat(256);
        for (at, host) in hosts.into_iter().chain([&*long]).enumerate() {
            for (metric, unit) in [(&*metric, "µ°€Ω♥"), ("ß{device=/dev/sda1}", "")] {
                let name = SeriesName::new(host, metric, unit);
                let index = self.recent.index(&name);
                let value = values[at % values.len()];
                self.recent.add(index, minute, 59_999, value, false);
            }
        }
        self.write();
        // And sums past them, from both ends.
        for value in [f64::MAX, f64::MIN] {
            for host in ["web-0", "web-1"] {
                let index = self.recent.index(&SeriesName::new(host, "cpu", "%"));
                for offset_ms in [1, 20_000, 20_001] {
                    self.recent.add(index, minute, offset_ms, value, false);
                }
            }
            self.write();
        }
    }

    fn write(&mut self) {
        self.position += 1;
        self.recent.pass(i64::MAX, Position::new(self.position, 0));
        while let Some(passed) = self.recent.next() {
            self.store.write(&passed).unwrap();
            self.recent.stored();
        }
    }

    pub(super) fn flush(&self) -> i64 {
        self.store.flush()
    }

    pub(super) fn ship(&self, url: &str) -> Shipper {
        let settings = Settings {
            target: Target::parse(url).unwrap(),
            dir: self.dir.clone(),
            node: self.node,
            keep_days: None,
        };
        Shipper::start(settings, self.flush()).unwrap()
    }

    pub(super) fn is_shipped(&self, shipper: &Shipper) -> bool {
        let status = shipper.status();
        status.watermark.load(Relaxed) == self.flush() && status.lag_ms(wall_ms()) == 0
    }

    pub(super) fn await_shipped(&self, shipper: &Shipper) {
        patiently("everything to be shipped", || self.is_shipped(shipper));
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let sql = "SELECT minute, series, count, sum, min, max, last, points FROM minutes";
        self.read(sql, |row| {
            Ok(Row {
                minute: row.get(0)?,
                series: row.get(1)?,
                rollup: Rollup {
                    count: row.get::<_, i64>(2)? as u64,
                    sum: row.get(3)?,
                    min: row.get(4)?,
                    max: row.get(5)?,
                    last: row.get(6)?,
                },
                points: row.get(7)?,
            })
        })
    }

    pub(super) fn fleet(&self) -> Vec<FleetRow> {
        let sql = "SELECT metric, step, hosts, sum, min, max, spread FROM fleet";
        self.read(sql, |row| {
            Ok(FleetRow {
                metric: row.get(0)?,
                step: row.get(1)?,
                hosts: row.get::<_, i64>(2)? as u64,
                sum: row.get(3)?,
                min: row.get(4)?,
                max: row.get(5)?,
                spread: row.get(6)?,
            })
        })
    }

    fn names(&self) -> Vec<Name> {
        let sql = "SELECT s.key, host, name, unit FROM series s JOIN metrics m ON m.key = metric";
        self.read(sql, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
    }

    fn read<T>(
        &self,
        sql: &str,
        read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for (_, path) in sqlite::list(&self.dir).unwrap() {
            let connection: Connection = sqlite::open_to_read(&path).unwrap();
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| read(row)).unwrap();
            found.extend(rows.map(|row| row.unwrap()));
        }
        found
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

type Name = (i64, String, String, String);
/// Key, counts and bits of a row, and its blob.
type Bits = ([i64; 3], Vec<u64>, Vec<u8>);

fn bits_of(node: i64, row: Row) -> Bits {
    let Rollup {
        count,
        sum,
        min,
        max,
        last,
    } = row.rollup;
    let doubles = [sum, min, max, last].map(f64::to_bits);
    let bits = [&[count], &doubles[..]].concat();
    ([row.minute, row.series, node], bits, row.points)
}

fn fleet_bits_of(node: i64, row: FleetRow) -> Bits {
    let doubles = [row.sum, row.min, row.max].map(f64::to_bits);
    let bits = [&[row.hosts], &doubles[..]].concat();
    ([row.metric, row.step, node], bits, row.spread)
}

fn shipped(server: &Mariadb, database: &str) -> Vec<Bits> {
    type Columns = (i64, i64, i64, u64, f64, f64, f64, f64, Vec<u8>);
    let sql = "SELECT minute, series, node, count, sum, min, max, last, points";
    let rows: Vec<Columns> = server.select(&format!("{sql} FROM {database}.minutes"));
    let bits = |(minute, series, node, count, sum, min, max, last, points): Columns| {
        let doubles = [sum, min, max, last].map(f64::to_bits);
        let bits = [&[count], &doubles[..]].concat();
        ([minute, series, node], bits, points)
    };
    rows.into_iter().map(bits).collect()
}

fn shipped_fleet(server: &Mariadb, database: &str) -> Vec<Bits> {
    type Columns = (i64, i64, i64, u64, f64, f64, f64, Vec<u8>);
    let sql = "SELECT metric, step, node, hosts, sum, min, max, spread";
    let rows: Vec<Columns> = server.select(&format!("{sql} FROM {database}.fleet"));
    let bits = |(metric, step, node, hosts, sum, min, max, spread): Columns| {
        let doubles = [sum, min, max].map(f64::to_bits);
        let bits = [&[hosts], &doubles[..]].concat();
        ([metric, step, node], bits, spread)
    };
    rows.into_iter().map(bits).collect()
}

/// Rows of the store; for a server that has none yet.
pub(super) fn missing(site: &Site, server: &Mariadb, database: &str) -> usize {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.tables
         WHERE table_schema = '{database}' AND table_name = 'minutes'"
    );
    assert_eq!(server.select::<(i64,)>(&sql)[0].0, 0);
    site.rows().len()
}

/// Each row of the sites is there once, bit by bit, and no other; so are the fleet's, and names.
pub(super) fn assert_same(sites: &[&Site], server: &Mariadb, database: &str) {
    let local = sites.iter().flat_map(|site| {
        let rows = site.rows().into_iter();
        rows.map(|row| bits_of(site.node, row))
    });
    assert_bits(local.collect(), shipped(server, database));
    let local = sites.iter().flat_map(|site| {
        let rows = site.fleet().into_iter();
        rows.map(|row| fleet_bits_of(site.node, row))
    });
    assert_bits(local.collect(), shipped_fleet(server, database));
    let local = sites.iter().flat_map(|site| site.names());
    let local: BTreeMap<i64, Name> = local.map(|name| (name.0, name)).collect();
    let sql = format!(
        "SELECT s.`key`, s.host, m.name, s.unit FROM {database}.series s
         JOIN {database}.metrics m ON m.`key` = s.metric"
    );
    let shipped = server.select::<Name>(&sql);
    assert_eq!(shipped.len(), local.len());
    for name in shipped {
        assert_eq!(local[&name.0], name);
    }
}

fn assert_bits(mut local: Vec<Bits>, mut shipped: Vec<Bits>) {
    local.sort_unstable();
    shipped.sort_unstable();
    assert!(!local.is_empty());
    for (local, shipped) in local.iter().zip(&shipped) {
        assert_eq!(local, shipped);
    }
    assert_eq!(local.len(), shipped.len(), "rows");
}
