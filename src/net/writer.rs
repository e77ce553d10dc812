//! The disk thread: one write and one `fdatasync` a batch, while the machine goes on stepping.

use std::sync::mpsc as blocking;
use std::time::Instant;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::mpsc;

use super::disk::{self, Batch, Log};
use crate::wire::Wire;

/// The disk thread's end at the driver.
#[derive(Debug)]
pub struct Writer<R> {
    batches: blocking::Sender<Vec<R>>,
    done: mpsc::UnboundedReceiver<Done>,
    writing: bool,
}

/// A batch is durable, or never will be.
#[derive(Debug)]
pub struct Done {
    /// Which of the two.
    pub result: Result<(), disk::Error>,
}

/// How the disk does. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct DiskMetrics {
    /// Seconds a batch took to become durable.
    pub fsync_seconds: Histogram,
    /// Log entries a batch had.
    pub batch_entries: Histogram,
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self {
            fsync_seconds: Histogram::new(exponential_buckets(25e-6, 2.0, 16)),
            batch_entries: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
        }
    }
}

impl<R: Wire + Send + 'static> Writer<R> {
    /// Starts the thread that writes `log`. It ends when the writer is dropped. `entries` counts a record's log entries.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(log: Log, metrics: DiskMetrics, entries: fn(&R) -> usize) -> std::io::Result<Self> {
        let (batches, queue) = blocking::channel();
        let (report, done) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("disk".into()).spawn(move || run(log, &queue, &report, &metrics, entries))?;
        Ok(Self { batches, done, writing: false })
    }
}

impl<R> Writer<R> {
    /// Hands over a batch. There is one at a time: the next one waits for [`Writer::done`].
    pub fn write(&mut self, records: Vec<R>) {
        assert!(!self.writing, "one batch at a time");
        self.writing = true;
        self.batches.send(records).expect("the disk thread lives as long as its writer");
    }

    /// Whether a batch is on its way.
    pub const fn is_writing(&self) -> bool {
        self.writing
    }

    /// Whether [`Writer::done`] has an answer already.
    pub fn is_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Waits for the batch on its way; for ever, when there is none.
    pub async fn done(&mut self) -> Done {
        if !self.writing {
            std::future::pending::<()>().await;
        }
        let done = self.done.recv().await.expect("the disk thread answers every batch");
        self.writing = false;
        done
    }
}

fn run<R: Wire>(
    mut log: Log,
    queue: &blocking::Receiver<Vec<R>>,
    report: &mpsc::UnboundedSender<Done>,
    metrics: &DiskMetrics,
    entries: fn(&R) -> usize,
) {
    let mut batch = Batch::new();
    while let Ok(records) = queue.recv() {
        #[expect(clippy::disallowed_methods, reason = "a metric; nothing is decided by it")]
        let started = Instant::now();
        let result = write(&mut log, &mut batch, &records);
        metrics.fsync_seconds.observe(started.elapsed().as_secs_f64());
        metrics.batch_entries.observe(records.iter().map(entries).sum::<usize>() as f64);
        if report.send(Done { result }).is_err() {
            return;
        }
    }
}

/// Writes the records as one durable batch; as several, in order, when one segment cannot hold them.
fn write<R: Wire>(log: &mut Log, batch: &mut Batch, records: &[R]) -> Result<(), disk::Error> {
    let mut record_bytes = bytes::BytesMut::new();
    for record in records {
        if batch.bytes() > log.max_batch_bytes() / 4 {
            // Large already: the next record might not fit, and its size is known only once it is encoded.
            record_bytes.clear();
            record.encode(&mut record_bytes);
            if batch.bytes() + record_bytes.len() + Batch::RECORD_OVERHEAD > log.max_batch_bytes() {
                log.append(batch)?;
            }
            batch.push(&record_bytes);
        } else {
            batch.push_with(|out| record.encode(out));
        }
    }
    log.append(batch)
}
