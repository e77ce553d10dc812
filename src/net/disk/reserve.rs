//! Space kept back for the day on which the disk is full.
//!
//! A log that has filled its disk could be shortened by a snapshot, if there were space to write one. So it keeps a file beside
//! its segments that takes as much as a snapshot would, and what is written meanwhile. When the next segment
//! cannot be made, that file is given back, and the log's owner is told to write a snapshot at once. Once old segments have made
//! room, space is kept back anew; if they do not, the disk is full for good the next time.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::background::{Background, Haste};
use super::segment::{HEADER_BYTES, write_zeros};
use crate::defaults::LOG_FILL_PAUSE;

/// No name of a segment, so that a netbelt that knows of no reserve passes it over.
const FILE: &str = "reserve";

/// How much is kept back, between the log and its owner. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Reserve(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicU64,
    held: AtomicU64,
    spent: Notify,
}

impl Reserve {
    /// A snapshot would take so many bytes now.
    pub fn is_for(&self, snapshot_bytes: u64) {
        self.0.wanted.store(snapshot_bytes, Ordering::Relaxed);
    }

    /// How many bytes are kept back.
    pub fn bytes(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Waits until the space has been given back to a full disk.
    pub async fn spent(&self) {
        self.0.spent.notified().await;
    }
}

/// Keeps the space back.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    segment_bytes: u64,
    reserve: Reserve,
    /// Whether its size is to be looked at.
    due: bool,
    /// Given back, and not to be taken again before the log has become shorter: the snapshot needs it.
    spent: bool,
    resizing: Option<Background<()>>,
}

impl Keeper {
    pub(super) fn new(dir: &Path, segment_bytes: u64, reserve: Reserve) -> Self {
        let path = dir.join(FILE);
        reserve.0.held.store(fs::metadata(&path).map_or(0, |file| file.len()), Ordering::Relaxed);
        Self { path, segment_bytes, reserve, due: true, spent: false, resizing: None }
    }

    /// The log has one more segment, and with it a larger state perhaps.
    pub(super) const fn on_longer_log(&mut self) {
        self.due = !self.spent;
    }

    /// The log was compacted.
    pub(super) const fn on_shorter_log(&mut self) {
        (self.due, self.spent) = (true, false);
    }

    /// Makes it as large as it should be, in the background. What the disk does not give is tried for again when it is due.
    pub(super) fn tend(&mut self) {
        if !self.due || self.resizing.as_ref().is_some_and(|resizing| !resizing.is_finished()) {
            return;
        }
        self.due = false;
        let wanted = self.wanted();
        if wanted == self.reserve.bytes() {
            return;
        }
        let (path, reserve) = (self.path.clone(), self.reserve.clone());
        let work = move |haste: &Haste| match resize(&path, wanted, || haste.pause(LOG_FILL_PAUSE)) {
            Ok(()) => reserve.0.held.store(wanted, Ordering::Relaxed),
            Err(error) => tracing::warn!(
                "{}: cannot keep {wanted} bytes back for a full disk, only {}: {error}",
                path.display(),
                reserve.bytes()
            ),
        };
        self.resizing = Background::start("log-reserve", work).ok();
    }

    /// As many whole segments as take a snapshot, what is written meanwhile, which is no more than half of that (see
    /// [`SNAPSHOT_PAUSE`](crate::defaults::SNAPSHOT_PAUSE)), and half a segment.
    fn wanted(&self) -> u64 {
        let snapshot = self.reserve.0.wanted.load(Ordering::Relaxed);
        let bytes = snapshot + snapshot / 2 + self.segment_bytes / 2;
        bytes.div_ceil(self.segment_bytes - HEADER_BYTES as u64) * self.segment_bytes
    }

    /// Whether its size is about to change.
    #[cfg(test)]
    pub(super) fn is_resizing(&self) -> bool {
        self.resizing.as_ref().is_some_and(|resizing| !resizing.is_finished())
    }

    /// Gives the space back; false when there is none.
    pub(super) fn gives_back(&mut self) -> bool {
        self.resizing.take().into_iter().for_each(Background::finish);
        let held = self.reserve.0.held.swap(0, Ordering::Relaxed);
        self.spent |= held > 0;
        held > 0 && fs::remove_file(&self.path).is_ok()
    }

    /// The owner is to know.
    pub(super) fn is_spent(&self) {
        self.reserve.0.spent.notify_one();
    }
}

/// Gives the file that size, in space that it really takes; or leaves it as it was.
fn resize(path: &Path, size: u64, pause: impl FnMut()) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let before = file.metadata()?.len();
    if size <= before {
        return file.set_len(size);
    }
    let grown = match fallocate(&file, FallocateFlags::empty(), before, size - before) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&file, before, size, pause),
        grown => grown.map_err(io::Error::from),
    };
    if grown.is_err() {
        let restored = if before > 0 { file.set_len(before) } else { fs::remove_file(path) };
        restored?;
    }
    grown
}
