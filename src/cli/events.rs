//! Events of a server on their way to stdout, written by a thread of their own: a reader that stalls must not stall the
//! server. What finds the queue full is lost, and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::threads;

/// Events that may wait for a slow reader.
const QUEUE: usize = 64 << 10;

/// Where events go. Cloned for each who has some.
#[derive(Clone, Debug)]
pub struct Events {
    queue: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Line(String),
    /// All before it is written.
    Mark(Arc<Notify>),
}

impl Events {
    /// Starts the thread; `closed` is cancelled when stdout takes no more.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(closed: CancellationToken) -> io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE);
        threads::spawn("events", move || {
            for item in items {
                match item {
                    Item::Line(line) => {
                        let mut stdout = io::stdout().lock();
                        if stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).is_err() {
                            closed.cancel();
                            return;
                        }
                    }
                    Item::Mark(written) => written.notify_one(),
                }
            }
        })?;
        Ok(Self { queue, lost: Arc::default() })
    }

    /// Queues a line. Does not wait.
    pub fn put(&self, line: String) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Item::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that found the queue full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until all that was queued is written; false when nobody took it in that time.
    pub async fn written_within(&self, time: Duration) -> bool {
        let written = Arc::new(Notify::new());
        let all = async {
            // A reader that is only slow makes room.
            loop {
                match self.queue.try_send(Item::Mark(Arc::clone(&written))) {
                    Ok(()) => break written.notified().await,
                    Err(TrySendError::Full(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(TrySendError::Disconnected(_)) => return false,
                }
            }
            true
        };
        tokio::time::timeout(time, all).await.unwrap_or(false)
    }
}
