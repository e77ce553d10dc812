//! The durable log: batches of records go in, and what [`Log::append`] has acknowledged survives a power cut.
//!
//! Reading order:
//!
//! - this file: the public API, and the life of a batch on its way to the disk;
//! - `frame`: the bytes of one durable write, and how a reader tells a torn write from damage (pure);
//! - `segment`: the files that hold frames, filled with zeros before they are used;
//! - `background`: filling and removing them, without haste;
//! - `appender`: one write and one fdatasync a frame;
//! - `recovery`: reading a directory back, and the decision to boot, to cut or to refuse;
//! - `beginning`: how a log forgets what came before one of its frames;
//! - `reserve`: space kept back for the day on which the disk is full.
//!
//! # The idea
//!
//! One frame is what one write and one fdatasync made durable, and the next frame is written only after that
//! fdatasync returned. A power cut can therefore tear the last frame and no other. So a damaged frame with nothing
//! after it is the torn tail of a write that nobody was told about: it is cut, and the cut is reported. A damaged
//! frame with another one after it had been acknowledged: that is corruption, and the log refuses to open.
//!
//! What this cannot see: rot within the very last frame looks like a torn write, and a log that lost whole frames
//! from its end (a segment file deleted, a tail zeroed) looks like a shorter log.
//!
//! # On disk
//!
//! A directory of segments `00000000000000000001.log`, `…2.log`, consecutive from 1, or from 7 when there is a file
//! `00000000000000000007-0000004096.first`, each of a fixed size. All numbers are little-endian. The directory belongs to one
//! [`Log`] at a time; keeping a second process out is the caller's part.
//!
//! ```text
//! segment  magic 8 · format u8 · 0 · number u64 · salt u64 · size u64 · chain u32 · 0 · crc u32     (64 bytes)
//!          frame, frame, … each at a multiple of 8, then zeros to the end
//! frame    len u32 · prev u32 · crc u32 · check u32 · body (len bytes) · zeros to a multiple of 8
//! body     one or more records, each len u32 · bytes
//! ```

mod appender;
mod background;
mod compaction;
mod frame;
mod recovery;
mod reserve;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::defaults::DISK_PATIENCE;
use bytes::{BufMut, BytesMut};

use appender::Appender;
use frame::padded;
pub use recovery::{Records, Recovery};
use reserve::Keeper;
pub use reserve::Reserve;
use segment::{Access, Filling, Removing, Segment};

/// What the driver decides about a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size in bytes of the segments created from now on: a multiple of 8 between [`Options::MIN_SEGMENT_BYTES`] and
    /// [`Options::MAX_SEGMENT_BYTES`]. Existing segments keep theirs.
    pub segment_bytes: u64,
    /// A number that whoever chooses the stored values cannot guess; drawn afresh at each start. It enters every
    /// checksum, so that no stored value can pass for a frame.
    pub salt: u64,
}

impl Options {
    /// 16 MiB: filled in a fraction of a second even by a slow disk, and few files for a large log.
    pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
    /// Room for the segment's header and a frame of a few small records.
    pub const MIN_SEGMENT_BYTES: u64 = 256;
    /// 1 GiB: recovery holds one segment in memory, and a damaged header must not make it ask for more.
    pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

    /// Segments of the default size.
    pub fn new(salt: u64) -> Options {
        Options { segment_bytes: Options::DEFAULT_SEGMENT_BYTES, salt }
    }

    fn is_possible(segment_bytes: u64) -> bool {
        (Options::MIN_SEGMENT_BYTES..=Options::MAX_SEGMENT_BYTES).contains(&segment_bytes)
            && segment_bytes.is_multiple_of(8)
    }
}

/// The end of the last segment, which held no whole batch and was zeroed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file.
    pub file: PathBuf,
    /// Where the cut begins, in bytes from the start of the file; the next batch will be written here.
    pub offset: u64,
    /// How many bytes the cut covers: from `offset` up to and including the last byte that was not zero.
    pub bytes: u64,
}

/// Where a frame begins: later ones have larger places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOffset {
    segment: u64,
    /// In bytes from the start of the segment.
    offset: u64,
}

/// Records that become durable together: all of them or none.
///
/// Make one and reuse it: [`Log::append`] empties it and keeps its memory.
#[derive(Debug)]
pub struct Batch {
    /// A frame in the making: room for the header, then the body.
    frame: BytesMut,
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
    dir: PathBuf,
    options: Options,
    segment: Segment,
    appender: Appender,
    /// Where the next frame goes in `segment`.
    offset: u64,
    /// The checksum of the last frame, which the next one repeats.
    chain: u32,
    /// The next segment's file, filled in the background while this one still has room.
    filling: Option<Filling>,
    /// Where the log begins.
    first: LogOffset,
    /// Segments from before it, on their way out.
    removing: Removing,
    /// What is kept back for a full disk, if anything is.
    keeper: Option<Keeper>,
    failed: bool,
}

impl Log {
    /// Begins to open the log in `dir`, creating the directory (not its parents) where there is none. The caller takes the
    /// records it holds, and then the log ([`Recovery::finish`]).
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::NewerFormat`], here or later, leave the segments untouched; so do
    /// [`Error::NewerFile`], [`Error::UnknownFile`] and [`Error::SegmentBytes`]. A full disk ([`Error::NoSpace`]) does not keep an existing log
    /// from opening, unless somebody shortened its last segment.
    pub fn open(dir: &Path, options: Options) -> Result<Recovery, Error> {
        if !Options::is_possible(options.segment_bytes) {
            return Err(Error::SegmentBytes { given: options.segment_bytes });
        }
        segment::prepare_dir(dir)?;
        Recovery::begin(dir, options, Access::Write)
    }

    /// The records of the log in `dir`, whose files are opened for reading only: it may be somebody's last copy.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and the like, here or later.
    pub fn read(dir: &Path) -> Result<Records, Error> {
        Records::begin(dir)
    }

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

    /// Lets the log begin with the batch at `at`: what was written before is not read back any more, and segments that
    /// hold nothing else are removed in the background.
    ///
    /// # Errors
    /// When the disk refuses. The log may go on: a full disk leaves it as long as it was.
    pub fn begin_with(&mut self, at: LogOffset) -> Result<(), Error> {
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

/// Why the log could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or the quota is full. What was acknowledged before is safe.
    #[error(
        "no space left to {doing} {}: {source}; free some space and restart this node, acknowledged records are safe",
        path.display()
    )]
    NoSpace {
        /// The step that failed, as a verb.
        doing: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused a step for another reason than space. The process should exit.
    #[error(
        "cannot {doing} {}: {source}; check the disk and the permissions, then restart this node",
        path.display()
    )]
    Io {
        /// The step that failed, as a verb.
        doing: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A write is not done, and shows no sign that it will be.
    #[error(
        "the disk does not finish a write, and a node that stops waits for it no longer than {DISK_PATIENCE:?}; acknowledged \
         records are safe"
    )]
    StandsStill,
    /// Bytes that had been made durable are damaged or missing.
    #[error(
        "{} is damaged at offset {offset}: {why}; this is not a torn write and nothing was changed: \
         restore the file from a copy, or remove this node and let a new one take its place",
        file.display()
    )]
    Corrupt {
        /// The segment's file.
        file: PathBuf,
        /// Where the damage was found, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// The segment was written by a newer version of this program.
    #[error(
        "{} was written by a newer version of netbelt: it has format {version}, and this netbelt reads up to {supported}; \
         start that version, or a later one",
        file.display()
    )]
    NewerFormat {
        /// The segment's file.
        file: PathBuf,
        /// The version in its header.
        version: u8,
        /// The newest version that this program reads.
        supported: u8,
    },
    /// A file of a kind that this program does not know.
    #[error(
        "{} was written by a newer version of netbelt, and this netbelt knows no such file in a log: start that version, or a \
         later one",
        file.display()
    )]
    NewerFile {
        /// The file.
        file: PathBuf,
    },
    /// A `.log` or `.first` file with another name than such files have: perhaps a renamed one, so it is not passed over.
    #[error(
        "{} is not named like a file of the log: give it its name back, or, if it never belonged here, move it elsewhere",
        file.display()
    )]
    UnknownFile {
        /// The file.
        file: PathBuf,
    },
    /// The batch does not fit into a segment. Nothing was written.
    #[error(
        "a batch of {bytes} bytes does not fit into a segment, which takes {max}: split it, or use larger segments"
    )]
    BatchTooLarge {
        /// [`Batch::bytes`] of the batch.
        bytes: usize,
        /// [`Log::max_batch_bytes`] of the log.
        max: usize,
    },
    /// [`Options::segment_bytes`] is out of range.
    #[error(
        "segments of {given} bytes are not possible: choose a multiple of 8 from {} to {}",
        Options::MIN_SEGMENT_BYTES,
        Options::MAX_SEGMENT_BYTES
    )]
    SegmentBytes {
        /// The size asked for.
        given: u64,
    },
    /// An earlier append failed, and the log takes no more.
    #[error("the log in {} takes no more records since a write failed: restart this node", dir.display())]
    Failed {
        /// The log's directory.
        dir: PathBuf,
    },
}

impl Error {
    /// What to say of a file of the log that is not named like one. A newer version that has more to say in a name says it
    /// behind what there is, as in `00000000000000000007-0000004096-2.first` or `00000000000000000007.log2`.
    fn unknown(file: PathBuf) -> Error {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let (stem, _) = name.rsplit_once('.').unwrap_or((&name, ""));
        let mut parts = stem.split('-');
        let is_number = |part: &str, digits| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_longer = parts.next().is_some_and(|segment| is_number(segment, 20))
            && parts.clone().next().is_none_or(|offset| is_number(offset, 10))
            && parts.all(is_word);
        if is_longer { Error::NewerFile { file } } else { Error::UnknownFile { file } }
    }

    /// Turns the system's answer to `doing` something with `path` into an error; for use with `map_err`.
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| {
            let path = path.to_path_buf();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { doing, path, source },
                _ => Error::Io { doing, path, source },
            }
        }
    }
}
