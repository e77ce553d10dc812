//! What can be wrong with a log and its disk.

use std::io;
use std::path::{Path, PathBuf};

use super::options::Options;
use crate::defaults::DISK_PATIENCE;

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
        /// [`Batch::bytes`](super::Batch::bytes) of the batch.
        bytes: usize,
        /// [`Log::max_batch_bytes`](super::Log::max_batch_bytes) of the log.
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
    pub(super) fn unknown(file: PathBuf) -> Error {
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
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| {
            let path = path.to_path_buf();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { doing, path, source },
                _ => Error::Io { doing, path, source },
            }
        }
    }
}
