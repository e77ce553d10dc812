//! The life of a batch on its way to the disk.

use std::fs::File;
use std::path::PathBuf;

use bytes::{BufMut, BytesMut};

use super::appender::Appender;
use super::compaction;
use super::error::Error;
use super::frame::{self, LogOffset, padded};
use super::options::Options;
use super::reserve::{Keeper, Reserve};
use super::segment::{self, Filling, Removing, Segment};

/// Records that become durable together: all of them or none.
///
/// Make one and reuse it: [`Log::append`] empties it and keeps its memory.
#[derive(Debug)]
pub struct Batch {
    /// A frame in the making: room for the header, then the body.
    pub(super) frame: BytesMut,
}

impl Batch {
    /// What a record costs in a batch beside its own bytes.
    pub const RECORD_OVERHEAD: usize = 4;

    /// An empty batch.
    pub fn new() -> Batch {
        Batch { frame: BytesMut::zeroed(frame::HEADER_BYTES) }
    }

    /// Adds a record, which may be empty.
    pub fn push(&mut self, record: &[u8]) {
        self.push_with(|buffer| buffer.put_slice(record));
    }

    /// Adds the record that `encode` writes at the end of the buffer, sparing a copy.
    ///
    /// # Panics
    ///
    /// If `encode` takes away bytes that it did not write.
    pub fn push_with(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let at = self.frame.len();
        self.frame.put_u32_le(0);
        encode(&mut self.frame);
        let start = at + Batch::RECORD_OVERHEAD;
        assert!(self.frame.len() >= start, "an encoder may only add bytes to the batch");
        // A length past u32 saturates: such a batch is larger than any segment, and append refuses it.
        let len = u32::try_from(self.frame.len() - start).unwrap_or(u32::MAX);
        self.frame[at..start].copy_from_slice(&len.to_le_bytes());
    }

    /// Size in bytes, [`Batch::RECORD_OVERHEAD`] included: what [`Log::max_batch_bytes`] limits.
    pub fn bytes(&self) -> usize {
        self.frame.len() - frame::HEADER_BYTES
    }

    /// Whether the batch holds no record.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Drops the records and keeps the memory.
    pub fn clear(&mut self) {
        self.frame.truncate(frame::HEADER_BYTES);
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

/// An open log, ready for the next batch. Every call blocks on the disk, so it belongs on a thread of its own.
#[derive(Debug)]
pub struct Log {
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) segment: Segment,
    pub(super) appender: Appender,
    /// Where the next frame goes in `segment`.
    pub(super) offset: u64,
    /// The checksum of the last frame, which the next one repeats.
    pub(super) chain: u32,
    /// The next segment's file, filled in the background while this one still has room.
    pub(super) filling: Option<Filling>,
    /// Where the log begins.
    pub(super) first: LogOffset,
    /// Segments from before it, on their way out.
    pub(super) removing: Removing,
    /// What is kept back for a full disk, if anything is.
    pub(super) keeper: Option<Keeper>,
    pub(super) failed: bool,
}

impl Log {
    /// Keeps space back from now on, as `reserve` says.
    pub fn keep(&mut self, reserve: Reserve) {
        let mut keeper = Keeper::new(&self.dir, self.options.segment_bytes, reserve);
        keeper.tend();
        self.keeper = Some(keeper);
    }

    /// Makes `batch` durable with one write and one fdatasync, then empties it; says where it is. An empty batch costs
    /// nothing, and is nowhere.
    ///
    /// # Errors
    ///
    /// [`Error::BatchTooLarge`] comes before anything is written, and the log goes on. After any other error it is
    /// unknown how much of the batch reached the disk, the batch is spent, and every later call answers
    /// [`Error::Failed`]: a second fsync could succeed without having written the pages that the first one lost.
    pub fn append(&mut self, batch: &mut Batch) -> Result<Option<LogOffset>, Error> {
        if self.failed {
            return Err(Error::Failed { dir: self.dir.clone() });
        }
        if batch.is_empty() {
            return Ok(None);
        }
        if batch.bytes() > self.max_batch_bytes() {
            return Err(Error::BatchTooLarge { bytes: batch.bytes(), max: self.max_batch_bytes() });
        }
        self.failed = true;
        let at = self.write(&mut batch.frame)?;
        self.failed = false;
        batch.clear();
        Ok(Some(at))
    }

    /// The largest [`Batch::bytes`] that [`Log::append`] takes: one that fills a segment. Split what is larger.
    pub fn max_batch_bytes(&self) -> usize {
        self.options.segment_bytes as usize - segment::HEADER_BYTES - frame::HEADER_BYTES
    }

    /// Has the log begin with the batch at `at`: what was written before is not read back any more, and segments that
    /// hold nothing else are removed in the background.
    ///
    /// # Errors
    /// When the disk refuses. The log may go on: a full disk leaves it as long as it was.
    pub fn compact_to(&mut self, at: LogOffset) -> Result<(), Error> {
        assert!(
            at <= LogOffset { segment: self.segment.number, offset: self.offset },
            "a log begins with a batch of its own"
        );
        if at > self.first {
            compaction::set(&self.dir, at)?;
            self.removing.start(&self.dir, self.first.segment..at.segment);
            self.first = at;
            self.keeper.iter_mut().for_each(Keeper::on_shorter_log);
        }
        Ok(())
    }

    /// How many segments the log has.
    pub const fn segments(&self) -> u64 {
        self.segment.number + 1 - self.first.segment
    }

    fn write(&mut self, frame: &mut BytesMut) -> Result<LogOffset, Error> {
        let body_len = frame.len() - frame::HEADER_BYTES;
        frame.resize(padded(frame.len()), 0);
        let size = frame.len() as u64;
        if size > self.segment.size - self.offset {
            self.rotate()?;
        }
        let crc = frame::seal(frame, body_len, self.segment.seal, self.offset, self.chain);
        let at = LogOffset { segment: self.segment.number, offset: self.offset };
        self.appender.append(&self.segment, frame, self.offset)?;
        self.chain = crc;
        self.offset += size;
        // Filling takes a while, so it begins long before this segment is full: at once in a log that grows, whose next
        // segment may be wanted early. Without a thread, rotation does it.
        if self.filling.is_none() && (self.segment.number > 1 || self.offset > self.segment.size / 2) {
            self.filling = Filling::start(&self.dir, self.options.segment_bytes).ok();
        }
        // Old segments make room for it.
        if self.removing.is_finished() {
            self.keeper.iter_mut().for_each(Keeper::tend);
        }
        Ok(at)
    }

    /// Moves to the next segment. A full disk shows here, and nowhere else.
    fn rotate(&mut self) -> Result<(), Error> {
        let filled = self.filled()?;
        self.segment = Segment::create(&self.dir, filled, self.segment.number + 1, self.options, self.chain)?;
        self.offset = segment::HEADER_BYTES as u64;
        self.appender = Appender::new(&self.segment, self.offset)?;
        self.keeper.iter_mut().for_each(Keeper::on_longer_log);
        Ok(())
    }

    /// A file for the next segment. On a full disk it waits for what is on its way out, and then takes what was kept back.
    fn filled(&mut self) -> Result<File, Error> {
        let fill = || segment::fill(&self.dir, self.options.segment_bytes, || ());
        let filled = match self.filling.take() {
            // What failed in the background, some time ago, may succeed now.
            Some(filling) => filling.finish().or_else(|_| fill()),
            None => fill(),
        };
        let Err(Error::NoSpace { .. }) = filled else { return filled };
        if !self.removing.is_finished() {
            self.removing.finish();
            if let Ok(file) = fill() {
                return Ok(file);
            }
        }
        if !self.keeper.as_mut().is_some_and(Keeper::gives_back) {
            return filled;
        }
        let filled = fill()?;
        self.keeper.iter().for_each(Keeper::is_spent);
        Ok(filled)
    }
}
