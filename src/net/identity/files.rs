//! The files of a data directory: JSON that a crash leaves whole, and what can be wrong with them.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version of this netbelt.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whose directory it is; the other files are worth nothing without it.
pub(super) const IDENTITY: &str = "netbelt.json";
/// How often its node was started.
pub(super) const STARTS: &str = "starts.json";
/// Whom its node has met.
pub(super) const PEERS: &str = "peers.json";

/// A data directory that cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It has files that netbelt did not put there.
    #[error("{} holds other files and no data of netbelt", .0.display())]
    Foreign(PathBuf),
    /// There is no data.
    #[error("{} is no data directory of netbelt: there is no {IDENTITY} in it", .0.display())]
    Nothing(PathBuf),
    /// A crash came between its old content and its new one.
    #[error("a crash interrupted --force-new-cluster in {}: start its node, or run that again, which ends it", .0.display())]
    Interrupted(PathBuf),
    /// It belongs to another node or tool.
    #[error("{} belongs to {tool} {id}, not to {wanted_tool} {wanted_id}", path.display())]
    Other {
        /// The directory.
        path: PathBuf,
        /// The tool it belongs to.
        tool: String,
        /// The node it belongs to.
        id: String,
        /// The tool that asked.
        wanted_tool: String,
        /// The node that asked.
        wanted_id: String,
    },
    /// It is not the one that the node wrote. Two nodes with the same past would vote twice.
    #[error("{} is a copy of the data directory of {id}, and two nodes with one past would vote twice", path.display())]
    Copied {
        /// The directory.
        path: PathBuf,
        /// The node it belongs to.
        id: String,
    },
    /// A newer netbelt wrote it.
    #[error(
        "{} was written by a newer version of netbelt: it has format {format}, and netbelt {VERSION} knows up to {known}; start \
         that version, or a later one",
        path.display()
    )]
    Newer {
        /// The directory or the file.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest one that this netbelt knows.
        known: u32,
    },
    /// Its identity cannot be read.
    #[error("{} is damaged: {why}; restore it from a copy, or replace this node", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl DataDirError {
    /// Whether what is missing is space.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }
}

/// A JSON file of a data directory, if it is there, in no newer format than the `known` one.
pub(super) fn read_json<T: DeserializeOwned>(file: &Path, known: u32) -> Result<Option<T>, DataDirError> {
    /// What every format has: a newer one may look otherwise but for that.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", file)(error)),
    };
    let damaged = |why: serde_json::Error| DataDirError::Damaged { path: file.to_owned(), why: why.to_string() };
    let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format > known {
        return Err(DataDirError::Newer { path: file.to_owned(), format, known });
    }
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

/// Creates a directory and those above it that are missing, so that a crash does not take them away again.
pub(super) fn create_durably(path: &Path) -> Result<(), DataDirError> {
    let above = path.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    match (fs::create_dir(path), above) {
        (Ok(()), Some(above)) => {
            File::open(above).and_then(|above| above.sync_all()).map_err(io_error("make durable", above))
        }
        (Err(error), _) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        (Err(error), Some(above)) if error.kind() == ErrorKind::NotFound => {
            if above.is_dir() {
                return Err(io_error("create", path)(error)); // nor will it be possible when it is tried again
            }
            create_durably(above)?;
            create_durably(path)
        }
        (Err(error), _) => Err(io_error("create", path)(error)),
        (Ok(()), None) => Ok(()),
    }
}

/// Writes a file so that after a crash it is there whole or not at all. `content` may look at the file it goes to.
pub(super) fn write_durably(
    dir: &Path,
    name: &str,
    content: impl FnOnce(&Metadata) -> Vec<u8>,
) -> Result<(), DataDirError> {
    let (temporary, file) = (dir.join(format!("{name}.tmp")), dir.join(name));
    let write = || {
        let mut out = File::create(&temporary)?;
        out.write_all(&content(&out.metadata()?))?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        fs::rename(&temporary, &file)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write", &file))
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |source| DataDirError::Io { doing, path: path.to_owned(), source }
}
