//! What a command printed: in memory up to a bound, all of it in a file beyond.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::files;
use crate::defaults::MAX_OUTPUT_MEMORY;

/// Where output goes that is too long for memory: in both cases all of it, below `$TMPDIR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spill {
    /// A file without a name, which is gone when it is closed.
    Unnamed,
    /// A file to keep.
    Named,
}

/// Why output could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipe broke.
    #[error("cannot read its output: {0}")]
    Read(io::Error),
    /// The disk is full, or there is no such directory.
    #[error("cannot keep its output in {}: {error} (is there space? set TMPDIR to another directory)", dir.display())]
    Spill {
        /// Where.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// One stream of a command's output, as far as it came.
#[derive(Debug)]
pub struct Capture {
    spill: Spill,
    head: Vec<u8>,
    file: Option<Spilled>,
    bytes: u64,
}

/// A file that holds all of a stream.
#[derive(Debug)]
pub enum Spilled {
    /// Without a name.
    Unnamed(File),
    /// With a name; deleted when dropped, unless it is kept.
    Named(NamedTempFile),
}

/// A pipe of Linux holds this much, so that one read empties it.
const CHUNK: usize = 64 << 10;

impl Capture {
    /// Nothing yet.
    pub const fn new(spill: Spill) -> Self {
        Self { spill, head: Vec::new(), file: None, bytes: 0 }
    }

    /// How many bytes came.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first [`MAX_OUTPUT_MEMORY`] bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// All bytes, when they are more than that.
    pub fn into_file(self) -> Option<Spilled> {
        self.file
    }

    /// All bytes, when they are more than that.
    pub const fn file(&self) -> Option<&Spilled> {
        self.file.as_ref()
    }

    /// Takes all that comes until the pipe is closed. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the output cannot be read or kept.
    pub async fn fill(&mut self, pipe: &mut pipe::Receiver) -> Result<(), Error> {
        while self.file.is_none() {
            let free = MAX_OUTPUT_MEMORY - self.head.len();
            if free == 0 {
                let mut one_more = [0];
                if pipe.read(&mut one_more).await.map_err(Error::Read)? == 0 {
                    return Ok(());
                }
                self.spill(&one_more)?;
                break;
            }
            self.head.reserve(free.min(CHUNK / 8).max(self.head.len().min(free)));
            let length = (&mut *pipe).take(free as u64).read_buf(&mut self.head).await.map_err(Error::Read)?;
            self.bytes += length as u64;
            if length == 0 {
                return Ok(());
            }
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            match pipe.read(&mut chunk).await.map_err(Error::Read)? {
                0 => return Ok(()),
                length => self.spill(&chunk[..length])?,
            }
        }
    }

    /// Writes to the file, with all that came before if there was none yet.
    fn spill(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.try_spill(bytes);
        self.bytes += bytes.len() as u64;
        written.map_err(|error| Error::Spill { dir: std::env::temp_dir(), error })
    }

    fn try_spill(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = match self.spill {
                    Spill::Unnamed => Spilled::Unnamed(files::opening(|| tempfile::tempfile().map(keep))?),
                    Spill::Named => {
                        let mut name = tempfile::Builder::new();
                        let file = files::opening(|| name.prefix("worker-pool-").tempfile())?;
                        let (file, path) = file.into_parts();
                        Spilled::Named(NamedTempFile::from_parts(files::opening(|| keep(file)), path))
                    }
                };
                file.as_file().write_all(&self.head)?;
                self.file.insert(file)
            }
        };
        file.as_file().write_all(bytes)
    }
}

fn keep(file: File) -> File {
    files::keep(file.into()).into()
}

impl Spilled {
    /// The file.
    pub fn as_file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }
}
