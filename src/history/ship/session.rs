//! What the shipper's thread does: connect, look what is missing, send it, wait, begin again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::local::{self, Day, Pending};
use super::{Settings, ShipError, ShipStatus};
use crate::backoff::Backoff;
use crate::clock::wall_ms;
use crate::history::mysql::write::{Batch, Writer};
use crate::history::mysql::{Client, MysqlError, migrate, partitions};
use crate::history::sqlite;
use crate::limits::{
    MYSQL_CARE_INTERVAL, MYSQL_RETRIES_MAX, MYSQL_RETRY_MAX, MYSQL_TIMEOUT, SHIP_INTERVAL,
};
use crate::rng::Rng;

/// Invariant: at most one batch is in memory, and nothing that is not in the embedded store too.
pub(super) struct Session {
    settings: Settings,
    status: Arc<ShipStatus>,
    wake: Arc<Notify>,
    stop: watch::Receiver<bool>,
    backoff: Backoff,
    rng: Rng,
    batch: Batch,
    /// Whether anything arrived in the last session; none: there was none yet.
    is_up: Option<bool>,
    /// When the partitions are due to be looked after.
    care_at: Instant,
    is_care_refused: bool,
}

impl Session {
    pub(super) fn new(
        settings: Settings,
        status: Arc<ShipStatus>,
        wake: Arc<Notify>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            settings,
            status,
            wake,
            stop,
            backoff: Backoff::default(),
            rng: Rng::random(),
            batch: Batch::default(),
            is_up: None,
            care_at: Instant::now(),
            is_care_refused: false,
        }
    }

    /// Until it is stopped; then one more session at most, for what is left.
    pub(super) async fn run(mut self) {
        loop {
            let was_stopping = *self.stop.borrow();
            match self.connect_and_ship().await {
                Ok(()) => return,
                Err(error) => self.fails(&error),
            }
            if was_stopping {
                return;
            }
            let wait = self.backoff.next(&mut self.rng, None);
            let _ = timeout(wait, self.stop.wait_for(|stop| *stop)).await;
        }
    }

    async fn connect_and_ship(&mut self) -> Result<(), ShipError> {
        let client = Client::connect(&self.settings.target, MYSQL_TIMEOUT).await?;
        let mut writer = Writer::new(client, self.settings.node);
        let ended = self.ship_and_wait(&mut writer).await;
        writer.client.close().await;
        ended
    }

    async fn ship_and_wait(&mut self, writer: &mut Writer) -> Result<(), ShipError> {
        for migrate::Applied { number, name } in migrate::run(&mut writer.client).await? {
            tracing::info!(number, name, "MySQL's schema was brought up to date");
        }
        self.status.is_connected.store(true, Relaxed);
        self.care_at = Instant::now();
        loop {
            self.care(writer).await?;
            let is_stopping = *self.stop.borrow();
            self.ship(writer).await?;
            self.progresses();
            if is_stopping {
                return Ok(());
            }
            tokio::select! {
                () = self.wake.notified() => {}
                _ = self.stop.wait_for(|stop| *stop) => {}
                () = sleep(SHIP_INTERVAL) => {}
            }
        }
    }

    /// Partitions are a comfort: without them rows find a place all the same. So a database that
    /// will not have them made is told of, and written to.
    async fn care(&mut self, writer: &mut Writer) -> Result<(), MysqlError> {
        if Instant::now() < self.care_at {
            return Ok(());
        }
        self.care_at = Instant::now() + MYSQL_CARE_INTERVAL;
        let keep_days = self.settings.keep_days;
        match partitions::care(&mut writer.client, wall_ms(), keep_days).await {
            Ok(care) => {
                self.is_care_refused = false;
                if care.dropped != 0 {
                    let partitions::Care {
                        dropped,
                        names_forgotten,
                        ..
                    } = care;
                    tracing::info!(dropped, names_forgotten, "MySQL let old days go");
                }
                Ok(())
            }
            // Another node is at it.
            Err(MysqlError::Locked) => Ok(()),
            Err(error) if error.is_refusal() => {
                if !std::mem::replace(&mut self.is_care_refused, true) {
                    tracing::warn!(%error, "MySQL's days were not made or dropped");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Ships until nothing is left.
    async fn ship(&mut self, writer: &mut Writer) -> Result<(), ShipError> {
        loop {
            let newest = self.status.newest.load(Relaxed);
            // Asked each time: the database may have been emptied, or be another one by now.
            let watermark = writer.watermark().await?;
            self.status.watermark.store(watermark, Relaxed);
            // Ahead of us it speaks of a store that was put back from a copy: all is sent anew,
            // which changes nothing that is there.
            let after = if newest < watermark { 0 } else { watermark };
            let plan = local::pending(&self.settings.dir, after, newest)?;
            let oldest_ms = plan.first().map_or(0, |pending| pending.end_ms);
            self.status.oldest_ms.store(oldest_ms, Relaxed);
            if plan.is_empty() {
                return Ok(());
            }
            for pending in &plan {
                self.status.oldest_ms.store(pending.end_ms, Relaxed);
                self.ship_flush(writer, pending).await?;
            }
        }
    }

    async fn ship_flush(
        &mut self,
        writer: &mut Writer,
        pending: &Pending,
    ) -> Result<(), ShipError> {
        let Some(day) = Day::open(&pending.path)? else {
            return Ok(());
        };
        let wrong = |source| day.wrong(source);
        // A session that failed may have left something.
        self.batch.clear();
        let mut statement = day.prepare(local::ROWS)?;
        let mut rows = statement.query([pending.flush]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            self.batch.push(sqlite::read_row(row).map_err(wrong)?);
            if self.batch.is_full() {
                self.deliver(writer, &day, pending, None).await?;
            }
        }
        let mut statement = day.prepare(&local::fleet_sql())?;
        let mut rows = statement.query([pending.flush]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            self.batch
                .push_fleet(local::read_fleet(row).map_err(wrong)?);
            if self.batch.is_full() {
                self.deliver(writer, &day, pending, None).await?;
            }
        }
        self.deliver(writer, &day, pending, Some(pending.flush))
            .await?;
        self.status.watermark.store(pending.flush, Relaxed);
        Ok(())
    }

    /// Sends the batch, again where another client was in the way, and empties it.
    async fn deliver(
        &mut self,
        writer: &mut Writer,
        day: &Day,
        pending: &Pending,
        watermark: Option<i64>,
    ) -> Result<(), ShipError> {
        let mut retries = 0;
        loop {
            match self.send(writer, day, pending.day, watermark).await {
                Err(ShipError::Mysql(error)) if error.is_busy() && retries < MYSQL_RETRIES_MAX => {
                    retries += 1;
                    self.status.retries.fetch_add(1, Relaxed);
                    writer.roll_back().await?;
                    sleep(MYSQL_RETRY_MAX.mul_f64(self.rng.unit())).await;
                }
                sent => {
                    sent?;
                    break;
                }
            }
        }
        self.status.rows.fetch_add(self.batch.len() as u64, Relaxed);
        self.status
            .bytes
            .fetch_add(self.batch.bytes() as u64, Relaxed);
        self.batch.clear();
        self.progresses();
        Ok(())
    }

    /// Names first: a row that has none cannot be asked for.
    async fn send(
        &self,
        writer: &mut Writer,
        day: &Day,
        number: i64,
        watermark: Option<i64>,
    ) -> Result<(), ShipError> {
        let unnamed = writer.unnamed(&self.batch, number).await?;
        if !unnamed.is_empty() {
            writer.name(&day.names(&unnamed)?, number).await?;
        }
        Ok(writer.send(&self.batch, watermark).await?)
    }

    /// Something arrived, or nothing was left: the way is open.
    fn progresses(&mut self) {
        self.backoff.reset();
        if self.is_up.replace(true) != Some(true) {
            let behind_ms = self.status.lag_ms(wall_ms());
            tracing::info!(database = %self.settings.target, behind_ms, "history goes to MySQL");
        }
    }

    /// Told once, however often it is tried in vain.
    fn fails(&mut self, error: &ShipError) {
        self.status.is_connected.store(false, Relaxed);
        self.status.errors.fetch_add(1, Relaxed);
        self.status.set_error(error.to_string());
        if self.is_up.replace(false) != Some(false) {
            tracing::warn!(database = %self.settings.target, %error, "history waits for MySQL");
        }
    }
}
