//! The thread that waits for the disk, so that nobody else does.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use super::durable::{Durable, Marks};

/// Files to bring to the disk, and what is durable then.
struct Job {
    files: Vec<File>,
    marks: Marks,
    removed: Vec<PathBuf>,
}

pub struct Syncer {
    jobs: Option<SyncSender<Job>>,
    /// Files that were left before the disk had them.
    left: Vec<File>,
    /// Files that are needed no more.
    removed: Vec<PathBuf>,
    failed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub fn start(durable: Arc<Durable>) -> io::Result<Self> {
        let (jobs, todo) = sync_channel(1);
        let failed = Arc::new(AtomicBool::new(false));
        let tells = Arc::clone(&failed);
        let builder = thread::Builder::new().name("history-sync".to_owned());
        let thread = builder.spawn(move || run(&todo, &durable, &tells))?;
        Ok(Self {
            jobs: Some(jobs),
            left: Vec::new(),
            removed: Vec::new(),
            failed,
            thread: Some(thread),
        })
    }

    /// These are written no more; what comes after them counts as durable only once they are.
    pub fn leave(&mut self, mut files: Vec<File>) {
        self.left.append(&mut files);
    }

    /// To be removed with the next job: that takes its time too.
    pub fn remove(&mut self, mut paths: Vec<PathBuf>) {
        self.removed.append(&mut paths);
    }

    /// Brings `file` to the disk, group after group: false when the one before is still under way.
    pub fn sync(&mut self, file: File, marks: Marks) -> bool {
        let mut files = std::mem::take(&mut self.left);
        files.push(file);
        let Some(jobs) = &self.jobs else { return false };
        let removed = std::mem::take(&mut self.removed);
        let job = Job {
            files,
            marks,
            removed,
        };
        match jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(mut job) | TrySendError::Disconnected(mut job)) => {
                job.files.pop();
                (self.left, self.removed) = (job.files, job.removed);
                false
            }
        }
    }

    /// A disk that failed to take a file must not be asked again for the same file: the kernel has
    /// forgotten by then what it could not write. True once per failure.
    pub fn take_failure(&self) -> bool {
        self.failed.swap(false, Ordering::AcqRel)
    }

    /// Waits for all that was asked for.
    pub fn finish(&mut self, file: Option<File>, marks: Marks) {
        let mut files = std::mem::take(&mut self.left);
        files.extend(file);
        if let Some(jobs) = self.jobs.take() {
            let removed = std::mem::take(&mut self.removed);
            let _ = jobs.send(Job {
                files,
                marks,
                removed,
            });
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(todo: &Receiver<Job>, durable: &Durable, failed: &AtomicBool) {
    while let Ok(job) = todo.recv() {
        let Job {
            files,
            marks,
            removed,
        } = job;
        match files.iter().try_for_each(File::sync_data) {
            Ok(()) => durable.publish(marks),
            Err(error) => {
                tracing::error!(%error, "the disk did not take the journal");
                failed.store(true, Ordering::Release);
            }
        }
        for path in removed {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "the journal keeps a segment");
            }
        }
    }
}
