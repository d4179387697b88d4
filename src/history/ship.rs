//! The shipper: a thread that brings to MySQL what the embedded store has and MySQL has not.
//!
//! It goes write by write (flush by flush), and MySQL itself knows how far it came. So the database
//! may be away, slow, emptied or another one than before: that costs lag and nothing else.

mod local;
mod session;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::runtime;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::mysql::{MysqlError, Target};
use super::sqlite::StoreError;
use crate::clock::wall_ms;
use crate::limits::SHIP_STOP_TIMEOUT;
use session::Session;

/// From where, as whom, and to where.
#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Target,
    /// The embedded store's.
    pub dir: PathBuf,
    /// What [`super::node::load`] gives.
    pub node: i64,
    /// Days that MySQL keeps; none: all.
    pub keep_days: Option<i64>,
}

#[derive(Debug, Error)]
pub enum ShipError {
    #[error("{0}")]
    Mysql(#[from] MysqlError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// How shipping goes, for whoever wants to know: each value is exact, and all of about one moment.
#[derive(Debug, Default)]
pub struct ShipStatus {
    pub is_connected: AtomicBool,
    /// Flushes up to this one are in MySQL, as far as it was asked.
    pub watermark: AtomicI64,
    /// The newest flush of the embedded store.
    pub newest: AtomicI64,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    /// Sessions that ended in an error, and batches that another client was in the way of.
    pub errors: AtomicU64,
    pub retries: AtomicU64,
    /// When what is oldest of the rest was stored, about; 0: there is none.
    oldest_ms: AtomicI64,
    last_error: Mutex<Option<String>>,
}

impl ShipStatus {
    /// How far MySQL is behind: the age of the oldest flush that it lacks.
    pub fn lag_ms(&self, now_ms: i64) -> i64 {
        match self.oldest_ms.load(Relaxed) {
            0 => 0,
            oldest_ms => (now_ms - oldest_ms).max(0),
        }
    }

    /// Of the latest session that failed.
    pub fn last_error(&self) -> Option<String> {
        let error = self.last_error.lock();
        error.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: String) {
        let last = self.last_error.lock();
        *last.unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn grow(&self, newest: i64, now_ms: i64) {
        if self.newest.fetch_max(newest, Relaxed) < newest {
            // The oldest of the rest stays the oldest.
            let _ = self.oldest_ms.compare_exchange(0, now_ms, Relaxed, Relaxed);
        }
    }
}

/// The thread, as others hold it. Dropped, it lets the thread end in its own time.
pub struct Shipper {
    status: Arc<ShipStatus>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Shipper {
    /// `newest` is the store's newest flush.
    pub fn start(settings: Settings, newest: i64) -> io::Result<Shipper> {
        let status = Arc::<ShipStatus>::default();
        status.grow(newest, wall_ms());
        let wake = Arc::new(Notify::new());
        let (stop, stopping) = watch::channel(false);
        let session = Session::new(
            settings,
            Arc::clone(&status),
            Arc::clone(&wake),
            stopping.clone(),
        );
        // Made there: mysql_async's tasks live in the runtime that its connections were made in.
        let run = move || run(session, stopping);
        let thread = thread::Builder::new().name("ship".to_owned()).spawn(run)?;
        let thread = Some(thread);
        Ok(Shipper {
            status,
            wake,
            stop,
            thread,
        })
    }

    pub fn status(&self) -> &Arc<ShipStatus> {
        &self.status
    }

    /// The store has written up to this flush, on every day.
    pub fn wake(&self, newest: i64) {
        self.status.grow(newest, wall_ms());
        self.wake.notify_one();
    }

    /// Ships what is left, for as long as [`SHIP_STOP_TIMEOUT`], and ends the thread.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn run(session: Session, mut stopping: watch::Receiver<bool>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "history is not shipped: no runtime");
            return;
        }
    };
    let deadline = async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
        sleep(SHIP_STOP_TIMEOUT).await;
    };
    runtime.block_on(async {
        tokio::select! {
            () = session.run() => {}
            () = deadline => {}
        }
    });
    // A name lookup that hangs is left behind.
    runtime.shutdown_background();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_that_is_left() {
        let status = ShipStatus::default();
        status.grow(0, 1_000);
        assert_eq!(
            status.lag_ms(2_000),
            0,
            "an empty store lags behind nothing"
        );
        status.grow(1, 3_000);
        status.grow(2, 5_000);
        status.grow(1, 6_000);
        assert_eq!(status.newest.load(Relaxed), 2);
        assert_eq!(status.lag_ms(10_000), 7_000);
        assert_eq!(status.lag_ms(2_000), 0, "a clock that went back");
    }
}
