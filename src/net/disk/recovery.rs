//! Reading a directory back: whole batches are returned, a torn tail is cut, anything else is refused.
//!
//! Nothing is written before the last segment has been judged, so that a refused log stays as it was found.

use std::path::{Path, PathBuf};
use std::vec;

use bytes::{Buf, Bytes};

use super::appender::Appender;
use super::compaction;
use super::error::Error;
use super::frame::{self, LogOffset, Rest, Scan};
use super::log::Log;
use super::options::Options;
use super::segment::{self, Access, Removing, Segment};

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
}

/// A log while it is read back: its records, oldest first, a segment in memory at a time. After an error it is at its end,
/// and [`Recovery::finish`] repeats no part of it.
#[derive(Debug)]
pub struct Recovery {
    dir: PathBuf,
    options: Options,
    /// Where the log begins.
    first: LogOffset,
    /// Segments from before it, of a removal that a crash interrupted.
    unneeded: Vec<u64>,
    /// The segments that have not been read.
    numbers: vec::IntoIter<u64>,
    /// The `crc` of the last frame that has been read.
    chain: u32,
    /// The content of the segment being read: records are copied out of it, a batch at a time, so that a caller who keeps
    /// one record does not keep a segment.
    buffer: Vec<u8>,
    bodies: vec::IntoIter<std::ops::Range<usize>>,
    /// What is left of the batch being read.
    batch: Bytes,
    /// The segment being read.
    segment: Option<Read>,
    access: Access,
    failed: bool,
}

/// The records of a log that is only read, oldest first; after an error it is at its end. What was torn off its end is passed
/// over, and stays where it is.
#[derive(Debug)]
pub struct Records(Recovery);

impl Records {
    /// Finds the segments of `dir`.
    pub(super) fn begin(dir: &Path) -> Result<Self, Error> {
        let unused = Options::new(0);
        Recovery::begin(dir, unused, Access::Read).map(Self)
    }
}

impl Iterator for Records {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// A segment that has been read and judged.
#[derive(Debug)]
struct Read {
    segment: Segment,
    file_len: u64,
    /// Where its last frame starts and ends.
    last_frame: usize,
    end: usize,
    torn: bool,
}

impl Recovery {
    /// Finds the segments of `dir`.
    pub(super) fn begin(dir: &Path, options: Options, access: Access) -> Result<Self, Error> {
        let said = compaction::find(dir)?;
        let first = said.unwrap_or(LogOffset { segment: 1, offset: segment::HEADER_BYTES as u64 });
        let mut unneeded = segment::list(dir)?;
        let numbers = unneeded.split_off(unneeded.partition_point(|number| *number < first.segment));
        let corrupt = |number, why| Err(Error::Corrupt { file: segment::path(dir, number), offset: 0, why });
        if let Some((missing, _)) = (first.segment..).zip(&numbers).find(|(expected, found)| expected != *found) {
            return corrupt(missing, "the segment is missing, and a later one is there");
        }
        if said.is_some() && numbers.is_empty() {
            return corrupt(first.segment, "the segment in which the log begins is missing");
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            options,
            first,
            unneeded,
            numbers: numbers.into_iter(),
            chain: 0,
            buffer: Vec::new(),
            bodies: Vec::new().into_iter(),
            batch: Bytes::new(),
            segment: None,
            access,
            failed: false,
        })
    }

    /// The log, ready for the next batch, and the torn tail that was cut off, if there was one. Records that have not been
    /// taken yet are read and judged like the others.
    ///
    /// Returns once all that was read is durable, so that the caller may act on it.
    ///
    /// # Errors
    /// Those of the iterator, unless it has told them; and when the disk refuses to settle the last segment, or to make the
    /// first.
    pub fn finish(mut self) -> Result<(Log, Option<Cut>), Error> {
        if self.failed {
            return Err(Error::Failed { dir: self.dir });
        }
        self.by_ref().try_for_each(|record| record.map(drop))?;
        let dir = self.dir;
        let (segment, offset, cut) = match self.segment {
            Some(read) => {
                let cut = settle(&read, &self.buffer)?;
                (read.segment, read.end as u64, cut)
            }
            None => {
                let filled = segment::fill(&dir, self.options.segment_bytes, || ())?;
                (Segment::create(&dir, filled, 1, self.options, 0)?, segment::HEADER_BYTES as u64, None)
            }
        };
        segment::sync_dir(&dir)?;
        let appender = Appender::new(&segment, offset)?;
        let mut removing = Removing::default();
        removing.start(&dir, self.unneeded);
        Ok((
            Log {
                dir,
                options: self.options,
                segment,
                appender,
                offset,
                chain: self.chain,
                filling: None,
                first: self.first,
                removing,
                keeper: None,
                failed: false,
            },
            cut,
        ))
    }

    /// The next record; nothing at the end.
    fn read_on(&mut self) -> Result<Option<Bytes>, Error> {
        while self.batch.is_empty() {
            match self.bodies.next() {
                Some(body) => self.batch = Bytes::copy_from_slice(&self.buffer[body]),
                None if self.numbers.as_slice().is_empty() => return Ok(None),
                None => self.read_segment()?,
            }
        }
        let len = self.batch.get_u32_le() as usize; // adds_up has seen that it is there
        Ok(Some(self.batch.split_to(len)))
    }

    fn read_segment(&mut self) -> Result<(), Error> {
        let Some(number) = self.numbers.next() else { return Ok(()) };
        let (is_first, is_last) = (number == self.first.segment, self.numbers.as_slice().is_empty());
        let segment = Segment::open(&self.dir, number, self.access)?;
        let corrupt = |offset, why| Error::Corrupt { file: segment.path.clone(), offset, why };
        // What came before the first segment of a log that was compacted, nobody knows any more.
        if segment.chain != self.chain && !(is_first && number > 1) {
            return Err(corrupt(
                segment::CHAIN_AT as u64,
                "the segment does not follow the last frame of the one before it",
            ));
        }
        let file_len = segment.read(&mut self.buffer)?;
        let scan = frame::scan(&self.buffer, segment::HEADER_BYTES, segment.seal, segment.chain);
        let Scan { mut bodies, end, chain, rest } = scan;
        for body in &bodies {
            if !adds_up(&self.buffer[body.clone()]) {
                let frame = body.start - frame::HEADER_BYTES;
                return Err(corrupt(frame as u64, "the frame is whole but its records do not add up"));
            }
        }
        match rest {
            Rest::Damaged(why) => return Err(corrupt(end as u64, why)),
            Rest::Torn if !is_last => return Err(corrupt(end as u64, "what follows the last whole frame is not zero")),
            Rest::Zeros if !is_last && file_len != segment.size => {
                return Err(corrupt(file_len.min(segment.size), "the file does not have the size in its header"));
            }
            Rest::Torn | Rest::Zeros => {}
        }
        let last_frame = bodies.last().map_or(end, |body| body.start - frame::HEADER_BYTES);
        if is_first && self.first.offset > segment::HEADER_BYTES as u64 {
            let first_body = self.first.offset as usize + frame::HEADER_BYTES;
            let forgotten = bodies.partition_point(|body| body.start < first_body);
            if bodies.get(forgotten).is_none_or(|body| body.start > first_body) {
                return Err(corrupt(self.first.offset, "the log begins here, and no frame does"));
            }
            bodies.drain(..forgotten);
        }
        self.chain = chain;
        self.bodies = bodies.into_iter();
        self.segment = Some(Read { segment, file_len, last_frame, end, torn: rest == Rest::Torn });
        Ok(())
    }
}

impl Iterator for Recovery {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read_on();
        self.failed = read.is_err();
        read.transpose()
    }
}

/// Makes the last segment, as it was judged, durable and ready for the next frame.
fn settle(read: &Read, buffer: &[u8]) -> Result<Option<Cut>, Error> {
    let Read { segment, file_len, last_frame, end, torn } = read;
    let (offset, file_len) = (*end as u64, *file_len);
    let mut cut = None;
    if *torn || file_len > segment.size {
        let used = buffer.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let used = if file_len > segment.size { file_len } else { used };
        let bytes = used - offset;
        let file = segment.path.clone();
        tracing::warn!(file = %file.display(), offset, bytes, "cut a torn write off the end of the log");
        cut = Some(Cut { file, offset, bytes });
    }
    if file_len < segment.size {
        let (file, size) = (segment.path.display(), segment.size);
        tracing::warn!(%file, file_len, size, "the last segment had been shortened; filled it with zeros again");
    }
    if cut.is_some() || file_len != segment.size {
        segment.zero_from(offset)?;
    }
    // What was read may be in the system's memory only: the process that wrote it may have died before its fdatasync,
    // or of its failure, after which the pages count as clean and a mere fsync would skip them. Writing the last frame
    // again makes them dirty; frames before it were durable before it was written.
    segment.write_durably(&buffer[*last_frame..*end], *last_frame as u64)?;
    Ok(cut)
}

/// Whether the records in `body` have the lengths that fill it exactly.
fn adds_up(mut body: &[u8]) -> bool {
    while !body.is_empty() {
        match body.try_get_u32_le() {
            Ok(len) if len as usize <= body.len() => body.advance(len as usize),
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
