//! The disk thread: one write and one `fdatasync` a batch, while the machine goes on stepping.

use std::sync::mpsc as blocking;
use std::time::Instant;

use bytes::BytesMut;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::mpsc;

use super::disk::{self, Batch, Log};
use crate::wire::Wire;

/// What the disk needs to know of the records it writes.
#[derive(Debug)]
pub struct Meaning<R> {
    /// How many log entries it holds.
    pub entries: fn(&R) -> usize,
    /// Whether a log may begin with it, once all that belongs to it is there.
    pub begins: fn(&R) -> bool,
    /// Whether with it, all that belongs to the latest record that `begins` is there: nothing before that one is needed any
    /// more.
    pub completes: fn(&R) -> bool,
}

impl<R> Clone for Meaning<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Meaning<R> {}

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
    /// Segments that the log has.
    pub segments: Gauge,
    /// Times that the log got a new beginning.
    pub snapshots: Counter,
}

impl Default for DiskMetrics {
    fn default() -> Self {
        Self {
            fsync_seconds: Histogram::new(exponential_buckets(25e-6, 2.0, 16)),
            batch_entries: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            segments: Gauge::default(),
            snapshots: Counter::default(),
        }
    }
}

impl<R: Wire + Send + 'static> Writer<R> {
    /// Starts the thread that writes `log`. It ends when the writer is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(log: Log, metrics: DiskMetrics, meaning: Meaning<R>) -> std::io::Result<Self> {
        let (batches, queue) = blocking::channel();
        let (report, done) = mpsc::unbounded_channel();
        let thread = Thread { log, batch: Batch::new(), encoded: BytesMut::new(), beginning: None, meaning };
        std::thread::Builder::new().name("disk".into()).spawn(move || thread.run(&queue, &report, &metrics))?;
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

/// What the disk thread owns.
struct Thread<R> {
    log: Log,
    batch: Batch,
    encoded: BytesMut,
    /// The segment of the latest record that begins a log, until it is complete.
    beginning: Option<u64>,
    meaning: Meaning<R>,
}

impl<R: Wire> Thread<R> {
    fn run(mut self, queue: &blocking::Receiver<Vec<R>>, report: &mpsc::UnboundedSender<Done>, metrics: &DiskMetrics) {
        while let Some(records) = self.next(queue) {
            #[expect(clippy::disallowed_methods, reason = "a metric; nothing is decided by it")]
            let started = Instant::now();
            let result = self.write(&records, metrics);
            metrics.fsync_seconds.observe(started.elapsed().as_secs_f64());
            metrics.segments.set(i64::try_from(self.log.segments()).unwrap_or(i64::MAX));
            metrics.batch_entries.observe(records.iter().map(self.meaning.entries).sum::<usize>() as f64);
            if report.send(Done { result }).is_err() {
                return;
            }
        }
    }

    /// The next batch. While there is none, what the log does not need any more is removed, a segment at a time.
    fn next(&mut self, queue: &blocking::Receiver<Vec<R>>) -> Option<Vec<R>> {
        loop {
            match queue.try_recv() {
                Ok(records) => return Some(records),
                Err(blocking::TryRecvError::Disconnected) => return None,
                Err(blocking::TryRecvError::Empty) if !self.log.remove_unneeded() => return queue.recv().ok(),
                Err(blocking::TryRecvError::Empty) => {}
            }
        }
    }

    /// Writes the records as one durable batch; as several, in order, when one segment cannot hold them, or when a log may
    /// begin with one of them.
    fn write(&mut self, records: &[R], metrics: &DiskMetrics) -> Result<(), disk::Error> {
        let mut complete = None;
        for record in records {
            if (self.meaning.begins)(record) {
                self.log.append(&mut self.batch)?;
                self.beginning = Some(self.log.start_segment()?);
            }
            if (self.meaning.completes)(record) {
                complete = self.beginning.take().or(complete);
            }
            self.push(record)?;
        }
        self.log.append(&mut self.batch)?;
        let Some(segment) = complete else { return Ok(()) };
        metrics.snapshots.inc();
        match self.log.begin_with(segment) {
            Err(error @ disk::Error::NoSpace { .. }) => {
                tracing::warn!("the log stays longer than it need be: {error}");
                Ok(())
            }
            result => result,
        }
    }

    fn push(&mut self, record: &R) -> Result<(), disk::Error> {
        let Self { log, batch, encoded, .. } = self;
        if batch.bytes() > log.max_batch_bytes() / 4 {
            // Large already: the next record might not fit, and its size is known only once it is encoded.
            encoded.clear();
            record.encode(encoded);
            if batch.bytes() + encoded.len() + Batch::RECORD_OVERHEAD > log.max_batch_bytes() {
                log.append(batch)?;
            }
            batch.push(encoded);
        } else {
            batch.push_with(|out| record.encode(out));
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

    const MEANING: Meaning<Note> =
        Meaning { entries: |_| 1, begins: |note| note.0 == "begin", completes: |note| note.0 == "end" };

    /// Writes each batch to the log in `dir` through a thread of its own, which has then ended.
    async fn write(dir: &Path, batches: &[&[&str]]) {
        let (log, _) = Log::open(dir, Options::new(7)).unwrap().finish().unwrap();
        let mut writer = Writer::start(log, DiskMetrics::default(), MEANING).unwrap();
        for batch in batches {
            writer.write(batch.iter().map(|note| Note((*note).to_owned())).collect());
            writer.done().await.result.unwrap();
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
        let (log, _) = Log::open(dir.path(), Options::new(7)).unwrap().finish().unwrap();
        let mut writer = Writer::start(log, DiskMetrics::default(), MEANING).unwrap();
        for note in ["begin", "begin", "a", "begin", "b", "begin", "end"] {
            writer.write(vec![Note(note.to_owned())]);
            writer.done().await.result.unwrap();
        }
        let old = dir.path().join("00000000000000000001.log");
        tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while old.exists() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the first segment goes");
    }
}
