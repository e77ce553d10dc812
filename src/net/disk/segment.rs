//! Segment files: named, filled, headed, and never visible under their name before they are whole.
//!
//! A file grows into a segment as `next.tmp`: zeros up to its size, fsync; header, fsync; rename, fsync of the
//! directory. A crash leaves a `next.tmp`, which the next start removes, or a whole segment. The zeros are real ones, so
//! that an fdatasync later on has neither a size nor an extent to write, only data.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crc32c::crc32c;
use rustix::fs::OFlags;

use super::background::{Background, Haste};
use super::error::Error;
use super::frame::{Seal, ZEROS};
use super::options::Options;
use crate::defaults::{LOG_FILL_PAUSE, LOG_REMOVE_PAUSE, LOG_REMOVE_PIECE};

/// Size of a segment's header; the first frame follows it.
pub(super) const HEADER_BYTES: usize = 64;

/// What direct I/O is aligned to: no common disk has larger blocks.
pub(super) const BLOCK: usize = 4096;

/// The format this program writes, and the newest that it reads.
pub(super) const FORMAT: u8 = 1;

// Where the fields of the header are. The bytes between them are zero.
const MAGIC_AT: usize = 0;
const FORMAT_AT: usize = 8;
const NUMBER_AT: usize = 16;
const SALT_AT: usize = 24;
const SIZE_AT: usize = 32;
pub(super) const CHAIN_AT: usize = 40;
const CRC_AT: usize = 60;

const MAGIC: [u8; 8] = *b"nbeltlog";
const NEXT: &str = "next.tmp";

/// What is to be done with segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// They are read.
    Read,
    /// They are read, and written behind that.
    Write,
}

/// A segment's file, open for reading and, mostly, for writing.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) number: u64,
    /// Size in bytes that the file has, or had when it was made.
    pub(super) size: u64,
    /// The `crc` of the last frame of the segment before; 0 in the first segment.
    pub(super) chain: u32,
    pub(super) seal: Seal,
}

impl Segment {
    /// Turns `next.tmp`, which is `filled`, into segment `number`; `chain` is the `crc` of the frame before it.
    pub(super) fn create(
        dir: &Path,
        filled: File,
        number: u64,
        options: Options,
        chain: u32,
    ) -> Result<Segment, Error> {
        let (file, path, next) = (filled, path(dir, number), dir.join(NEXT));
        let (size, salt) = (options.segment_bytes, options.salt);
        file.write_all_at(&header(number, salt, size, chain), 0).map_err(Error::io("write to", &next))?;
        file.sync_data().map_err(Error::io("make durable", &next))?;
        fs::rename(&next, &path).map_err(Error::io("rename the next segment to", &path))?;
        sync_dir(dir)?;
        Ok(Segment { file, path, number, size, chain, seal: Seal::new(salt, number) })
    }

    /// Opens segment `number` and reads its header.
    pub(super) fn open(dir: &Path, number: u64, access: Access) -> Result<Segment, Error> {
        let path = path(dir, number);
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let mut header = [0; HEADER_BYTES];
        let corrupt = |offset, why| Error::Corrupt { file: path.clone(), offset: offset as u64, why };
        file.read_exact_at(&mut header, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => corrupt(0, "the file is shorter than a segment's header"),
            _ => Error::io("read", &path)(error),
        })?;
        if header[..FORMAT_AT] != MAGIC {
            return Err(corrupt(MAGIC_AT, "the file does not begin like a segment"));
        }
        // Before the checksum: a newer format may well keep it elsewhere.
        if header[FORMAT_AT] > FORMAT {
            return Err(Error::NewerFormat { file: path, version: header[FORMAT_AT], supported: FORMAT });
        }
        if crc32c(&header[..CRC_AT]) != u32_at(&header, CRC_AT) {
            return Err(corrupt(MAGIC_AT, "the segment's header fails its checksum"));
        }
        if u64_at(&header, NUMBER_AT) != number {
            return Err(corrupt(NUMBER_AT, "the number in the segment's header is not the one in its name"));
        }
        let size = u64_at(&header, SIZE_AT);
        if header[FORMAT_AT] != FORMAT || !Options::is_possible(size) {
            return Err(corrupt(FORMAT_AT, "the segment's header holds values that were never written"));
        }
        let (chain, seal) = (u32_at(&header, CHAIN_AT), Seal::new(u64_at(&header, SALT_AT), number));
        Ok(Segment { file, path, number, size, chain, seal })
    }

    /// Reads the whole segment into `buffer`, with zeros for what the file lacks; returns the length of the file.
    pub(super) fn read(&self, buffer: &mut Vec<u8>) -> Result<u64, Error> {
        let file_len = self.file.metadata().map_err(Error::io("examine", &self.path))?.len();
        buffer.clear();
        buffer.resize(self.size as usize, 0);
        let present = file_len.min(self.size) as usize;
        self.file.read_exact_at(&mut buffer[..present], 0).map_err(Error::io("read", &self.path))?;
        Ok(file_len)
    }

    /// One write, one fdatasync.
    pub(super) fn write_durably(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(Error::io("write to", &self.path))?;
        self.file.sync_data().map_err(Error::io("make durable", &self.path))
    }

    /// Gives the file its size back, with nothing but zeros from `offset` on. Not durable by itself.
    pub(super) fn zero_from(&self, offset: u64) -> Result<(), Error> {
        self.file.set_len(self.size).map_err(Error::io("resize", &self.path))?;
        write_zeros(&self.file, offset, self.size, || ()).map_err(Error::io("write zeros to", &self.path))
    }
}

/// The next segment's file in the making.
#[derive(Debug)]
pub(super) struct Filling(Background<Result<File, Error>>);

impl Filling {
    /// Starts to fill it; fails only if the system has no thread to give.
    pub(super) fn start(dir: &Path, size: u64) -> io::Result<Filling> {
        let dir = dir.to_path_buf();
        Background::start("log-fill", move |haste| fill(&dir, size, || haste.pause(LOG_FILL_PAUSE))).map(Filling)
    }

    /// Waits for the file, for use with [`Segment::create`]. A full disk is reported here, when the file is needed.
    pub(super) fn finish(self) -> Result<File, Error> {
        self.0.finish()
    }
}

/// Segments which nobody needs, on their way out.
#[derive(Debug, Default)]
pub(super) struct Removing(Vec<Background<()>>);

impl Removing {
    /// Starts to remove these segments. What cannot be removed is left to the next start.
    pub(super) fn start(&mut self, dir: &Path, numbers: impl IntoIterator<Item = u64>) {
        let paths: Vec<_> = numbers.into_iter().map(|number| path(dir, number)).collect();
        self.0.retain(|removing| !removing.is_finished());
        if paths.is_empty() {
            return;
        }
        let left = |error: &dyn std::fmt::Display| {
            tracing::warn!("old segments of the log stay until this node starts anew: {error}");
        };
        let started = Background::start("log-remove", move |haste| {
            for path in paths {
                if let Err(error) = shrink(&path, haste).and_then(|()| remove(&path)) {
                    left(&error);
                }
            }
        });
        match started {
            Ok(removing) => self.0.push(removing),
            Err(error) => left(&error),
        }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_finished(&self) -> bool {
        self.0.iter().all(Background::is_finished)
    }

    /// Waits until all of it is done.
    pub(super) fn finish(&mut self) {
        self.0.drain(..).for_each(Background::finish);
    }
}

/// Gives back what a file takes that is about to be removed, but for a little.
fn shrink(path: &Path, haste: &Haste) -> Result<(), Error> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(Error::io("open", path))?,
    };
    let mut size = file.metadata().map_err(Error::io("examine", path))?.len();
    while size > LOG_REMOVE_PIECE {
        size -= LOG_REMOVE_PIECE;
        file.set_len(size).map_err(Error::io("shorten", path))?;
        haste.pause(LOG_REMOVE_PAUSE);
    }
    Ok(())
}

/// Makes `next.tmp`: `size` zeros, durable, with a pause now and then. Past the page cache where that can be had: they are
/// never read.
pub(super) fn fill(dir: &Path, size: u64, mut pause: impl FnMut()) -> Result<File, Error> {
    let path = dir.join(NEXT);
    let filled = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).and_then(|file| {
        let written = open_direct(&path, size)?.map(|direct| write_zeros(&direct, 0, size, &mut pause));
        match written {
            // Some file systems open the file and then refuse to write.
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => write_zeros(&file, 0, size, pause)?,
            Some(written) => written?,
            None => write_zeros(&file, 0, size, pause)?,
        }
        file.sync_all()?;
        Ok(file)
    });
    filled.map_err(|error| {
        // On a full disk these zeros are what somebody else lacks. If this fails too, the next start does it.
        let _ = fs::remove_file(&path);
        Error::io("fill", &path)(error)
    })
}

/// The file of `size` bytes for writing past the page cache; nothing where that cannot be had.
pub(super) fn open_direct(path: &Path, size: u64) -> io::Result<Option<File>> {
    if !size.is_multiple_of(BLOCK as u64) {
        return Ok(None); // the last block would reach beyond the end
    }
    match OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates `dir` if there is none, and removes what an unfinished rotation left.
pub(super) fn prepare_dir(dir: &Path) -> Result<(), Error> {
    match fs::create_dir(dir) {
        Ok(()) => {
            // `log` has the parent ``, which stands for the current directory.
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_dir(parent.unwrap_or(Path::new(".")))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create", dir)(error)),
    }
    remove(&dir.join(NEXT))
}

/// The numbers of the segments in `dir`, ascending. Files that do not end in `.log` are not theirs.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let file = entry.map_err(Error::io("list", dir))?.path();
        if !is_named(&file, "log") {
            continue;
        }
        let number: Option<u64> = file.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        match number {
            Some(number) if path(dir, number) == file => numbers.push(number),
            _ => return Err(Error::unknown(file)),
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether the file has that extension, or one that a newer version may have made of it.
pub(super) fn is_named(file: &Path, extension: &str) -> bool {
    let found = file.extension().and_then(|found| found.to_str()).and_then(|found| found.strip_prefix(extension));
    found.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The file of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("make durable", dir))
}

fn header(number: u64, salt: u64, size: u64, chain: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(MAGIC_AT, &MAGIC);
    put(FORMAT_AT, &[FORMAT]);
    put(NUMBER_AT, &number.to_le_bytes());
    put(SALT_AT, &salt.to_le_bytes());
    put(SIZE_AT, &size.to_le_bytes());
    put(CHAIN_AT, &chain.to_le_bytes());
    let crc = crc32c(&header[..CRC_AT]);
    header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn write_zeros(file: &File, from: u64, to: u64, mut pause: impl FnMut()) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..len as usize], at)?;
        at += len;
        pause();
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
