//! The disk thread: one write and one `fdatasync` a batch, while the machine goes on stepping.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::mpsc;

use super::disk::{self, Batch, Log, LogOffset};
use crate::defaults::DISK_PATIENCE;
use crate::protocol::NoRecord;
use crate::threads;
use crate::wire::Wire;

/// Where a machine's records become durable, a batch at a time.
pub trait Journal<R> {
    /// Hands over a batch. There is one at a time: the next one waits for [`Journal::done`].
    fn write(&mut self, records: Vec<R>);

    /// Whether a batch is on its way.
    fn is_writing(&self) -> bool;

    /// Whether [`Journal::done`] has an answer already.
    fn is_done(&self) -> bool;

    /// Waits until the batch on its way is durable, or never will be; for ever, when there is none.
    fn done(&mut self) -> impl Future<Output = Result<(), disk::Error>>;
}

/// The journal of a machine that has no disk, and so no records.
#[derive(Clone, Copy, Debug)]
pub struct NoJournal;

impl Journal<NoRecord> for NoJournal {
    fn write(&mut self, _none: Vec<NoRecord>) {}

    fn is_writing(&self) -> bool {
        false
    }

    fn is_done(&self) -> bool {
        false
    }

    async fn done(&mut self) -> Result<(), disk::Error> {
        std::future::pending().await
    }
}

/// What the disk needs to know of the records it writes. By default the log is never compacted.
#[derive(Debug)]
pub struct RecordKind<R> {
    /// How many log entries it holds.
    pub entries: fn(&R) -> usize,
    /// Whether a log may begin with it, once all that belongs to it is there.
    pub begins: fn(&R) -> bool,
    /// Whether with it, all that belongs to the latest record that `begins` is there: nothing before that one is needed any
    /// more.
    pub completes: fn(&R) -> bool,
}

impl<R> Default for RecordKind<R> {
    fn default() -> Self {
        Self { entries: |_| 1, begins: |_| false, completes: |_| false }
    }
}

/// The disk thread's end at the driver.
#[derive(Debug)]
pub struct Writer<R> {
    batches: blocking::Sender<Vec<R>>,
    done: mpsc::UnboundedReceiver<Result<(), disk::Error>>,
    writing: bool,
    metrics: DiskMetrics,
}

/// How the disk does. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct DiskMetrics {
    /// Seconds a batch took to become durable.
    pub fsync_seconds: Histogram,
    /// Log entries a batch had.
    pub batch_entries: Histogram,
    /// Segments that the log has.
    pub segments: Gauge,
    /// Times that the log was compacted.
    pub snapshots: Counter,
    /// Since when the batch on its way is on it.
    busy_since: Arc<Mutex<Option<tokio::time::Instant>>>,
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self {
            fsync_seconds: Histogram::new(exponential_buckets(25e-6, 2.0, 16)),
            batch_entries: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            segments: Gauge::default(),
            snapshots: Counter::default(),
            busy_since: Arc::default(),
        }
    }
}

impl DiskMetrics {
    /// For how long the disk has had a batch in hand.
    pub fn in_hand(&self) -> Duration {
        self.busy_since().map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Why nothing more becomes durable, when the disk has had a batch for so long that it seems to stand still.
    pub fn stands_still(&self) -> Option<String> {
        let in_hand = self.in_hand();
        (in_hand >= DISK_PATIENCE)
            .then(|| format!("the disk has not finished a write for {:.1} s", in_hand.as_secs_f64()))
    }

    fn busy_since(&self) -> MutexGuard<'_, Option<tokio::time::Instant>> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Wire + Send + 'static> Writer<R> {
    /// Starts the thread that writes `log`. It ends when the writer is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(log: Log, metrics: DiskMetrics, kind: RecordKind<R>) -> std::io::Result<Self> {
        let (batches, queue) = blocking::channel();
        let (report, done) = mpsc::unbounded_channel();
        let thread = Thread {
            log,
            batch: Batch::new(),
            encoded: BytesMut::new(),
            kind,
            begins: false,
            completes: false,
            candidate: None,
            complete: None,
        };
        let counted = metrics.clone();
        threads::spawn("disk", move || thread.run(&queue, &report, &counted))?;
        Ok(Self { batches, done, writing: false, metrics })
    }
}

impl<R> Journal<R> for Writer<R> {
    fn write(&mut self, records: Vec<R>) {
        assert!(!self.writing, "one batch at a time");
        self.writing = true;
        *self.metrics.busy_since() = Some(tokio::time::Instant::now());
        self.batches.send(records).expect("the disk thread lives as long as its writer");
    }

    fn is_writing(&self) -> bool {
        self.writing
    }

    fn is_done(&self) -> bool {
        !self.done.is_empty()
    }

    async fn done(&mut self) -> Result<(), disk::Error> {
        if !self.writing {
            std::future::pending::<()>().await;
        }
        let done = self.done.recv().await.expect("the disk thread answers every batch");
        self.writing = false;
        *self.metrics.busy_since() = None;
        done
    }
}

/// What the disk thread owns.
struct Thread<R> {
    log: Log,
    batch: Batch,
    encoded: BytesMut,
    kind: RecordKind<R>,
    /// Whether the batch begins with a record that begins a log, and whether it has one that completes such a log.
    begins: bool,
    completes: bool,
    /// Where the latest record that begins a log is, until that is complete.
    candidate: Option<LogOffset>,
    /// Where the log may begin.
    complete: Option<LogOffset>,
}

impl<R: Wire> Thread<R> {
    fn run(
        mut self,
        queue: &blocking::Receiver<Vec<R>>,
        report: &mpsc::UnboundedSender<Result<(), disk::Error>>,
        metrics: &DiskMetrics,
    ) {
        while let Ok(records) = queue.recv() {
            #[expect(clippy::disallowed_methods, reason = "a metric; nothing is decided by it")]
            let started = Instant::now();
            let result = self.write(&records, metrics);
            metrics.fsync_seconds.observe(started.elapsed().as_secs_f64());
            metrics.segments.set(i64::try_from(self.log.segments()).unwrap_or(i64::MAX));
            metrics.batch_entries.observe(records.iter().map(self.kind.entries).sum::<usize>() as f64);
            if report.send(result).is_err() {
                return;
            }
        }
    }

    /// Writes the records as one durable batch; as several, in order, when one segment cannot hold them, or when a log may
    /// begin with one of them.
    fn write(&mut self, records: &[R], metrics: &DiskMetrics) -> Result<(), disk::Error> {
        for record in records {
            if (self.kind.begins)(record) {
                self.flush()?;
                self.begins = true;
            }
            self.push(record)?;
            self.completes |= (self.kind.completes)(record);
        }
        self.flush()?;
        let Some(at) = self.complete.take() else { return Ok(()) };
        match self.log.compact_to(at) {
            Ok(()) => drop(metrics.snapshots.inc()),
            Err(error @ disk::Error::NoSpace { .. }) => {
                tracing::warn!("the log stays longer than it need be: {error}");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn push(&mut self, record: &R) -> Result<(), disk::Error> {
        if self.batch.bytes() > self.log.max_batch_bytes() / 4 {
            // Large already: the next record might not fit, and its size is known only once it is encoded.
            self.encoded.clear();
            record.encode(&mut self.encoded);
            let bytes = self.batch.bytes() + self.encoded.len() + Batch::RECORD_OVERHEAD;
            if bytes > self.log.max_batch_bytes() {
                self.flush()?;
            }
            self.batch.push(&self.encoded);
        } else {
            self.batch.push_with(|out| record.encode(out));
        }
        Ok(())
    }

    /// Makes durable what has been pushed.
    fn flush(&mut self) -> Result<(), disk::Error> {
        let Some(at) = self.log.append(&mut self.batch)? else { return Ok(()) };
        if std::mem::take(&mut self.begins) {
            self.candidate = Some(at);
        }
        if std::mem::take(&mut self.completes) {
            self.complete = self.candidate.take().or(self.complete);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::{BufMut, Bytes};

    use super::super::disk::Options;
    use super::*;
    use crate::wire::WireError;

    /// A record that is its name: `begin` and `end` mean what they say.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Note(String);

    impl Wire for Note {
        fn encode(&self, out: &mut BytesMut) {
            out.put_slice(self.0.as_bytes());
        }

        fn decode(bytes: Bytes) -> Result<Self, WireError> {
            String::from_utf8(bytes.to_vec()).map(Self).map_err(|_| WireError::Bad("note"))
        }
    }

    const KIND: RecordKind<Note> =
        RecordKind { entries: |_| 1, begins: |note| note.0 == "begin", completes: |note| note.0 == "end" };

    /// Writes each batch to the log in `dir` through a thread of its own, which has then ended.
    async fn write(dir: &Path, batches: &[&[&str]]) {
        let (log, _) = Log::open(dir, Options::new(7)).unwrap().finish().unwrap();
        let mut writer = Writer::start(log, DiskMetrics::default(), KIND).unwrap();
        for batch in batches {
            writer.write(batch.iter().map(|note| Note((*note).to_owned())).collect());
            writer.done().await.unwrap();
        }
    }

    fn read(dir: &Path) -> Vec<String> {
        let records = Log::open(dir, Options::new(8)).unwrap();
        records.map(|record| Note::decode(record.unwrap()).unwrap().0).collect()
    }

    #[tokio::test]
    async fn the_log_begins_with_the_latest_beginning_that_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        write(&log, &[&["a"], &["b", "begin", "c"], &["d"]]).await;
        assert_eq!(read(&log), ["a", "b", "begin", "c", "d"], "it is not complete");
        write(&log, &[&["e", "end"]]).await;
        assert_eq!(read(&log)[..2], ["a", "b"], "the end of another life completes nothing");
        write(&log, &[&["begin"], &["x", "begin", "y"], &["end", "z"]]).await;
        assert_eq!(read(&log), ["begin", "y", "end", "z"]);
        write(&log, &[&["begin", "end", "begin", "end", "begin"], &["last"]]).await;
        assert_eq!(read(&log), ["begin", "end", "begin", "last"]);
    }

    #[tokio::test]
    async fn what_is_not_needed_goes_although_nothing_more_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 1024, ..Options::new(7) };
        let (log, _) = Log::open(dir.path(), options).unwrap().finish().unwrap();
        let mut writer = Writer::start(log, DiskMetrics::default(), KIND).unwrap();
        let long = "more than half a segment".repeat(25);
        for note in ["begin", &long, &long, "begin", "end"] {
            writer.write(vec![Note(note.to_owned())]);
            writer.done().await.unwrap();
        }
        let old = dir.path().join("00000000000000000001.log");
        tokio::time::timeout(Duration::from_secs(20), async {
            while old.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the first segment goes");
    }
}
