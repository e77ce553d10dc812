//! Whose data a directory holds: the file netbelt.json, and the lock beside it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::net::identity::files::{DataDirError, IDENTITY, VERSION, io_error, read_json, write_durably};
use crate::net::identity::random_id::RandomId;

/// The newest format of a data directory that this netbelt knows.
pub const FORMAT: u32 = 2;

/// The file that is locked by whoever uses the directory.
pub(super) const LOCK: &str = "LOCK";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) format: u32,
    #[serde(default)]
    pub(super) protocol: u32,
    #[serde(default)]
    pub(super) netbelt: String,
    pub(super) tool: String,
    pub(super) id: String,
    pub(super) incarnation: RandomId,
    pub(super) file: FileName,
    pub(super) members: BTreeMap<String, String>,
    /// It is new until the node has begun, which `peers.json` says; false where a netbelt wrote this that begins at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) founding: bool,
}

/// What a file system calls a file: a copy has another inode, or at least another time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileName {
    pub(super) inode: u64,
    /// Nanoseconds since 1970, where the file system says so.
    pub(super) born: Option<u64>,
}

impl FileName {
    pub(super) fn of(file: &Metadata) -> Self {
        let born = file.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self { inode: file.ino(), born: born.map(|since| since.as_nanos() as u64) }
    }

    pub(super) fn is_possibly(self, other: Self) -> bool {
        self.inode == other.inode && (self.born.is_none() || other.born.is_none() || self.born == other.born)
    }
}

impl Identity {
    /// What the directory says of itself, if it says anything.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, DataDirError> {
        read_json(&path.join(IDENTITY), FORMAT).map_err(|error| match error {
            DataDirError::Newer { format, known, .. } => DataDirError::Newer { path: path.to_owned(), format, known },
            error => error,
        })
    }

    pub(super) fn write(&mut self, path: &Path) -> Result<(), DataDirError> {
        write_durably(path, IDENTITY, |file| {
            self.file = FileName::of(file);
            serde_json::to_vec(self).expect("an identity is JSON")
        })
    }

    /// Whether another netbelt wrote it, or one that speaks another `protocol`.
    pub(super) fn is_of_another_version(&self, protocol: u32) -> bool {
        (self.format, self.protocol, self.netbelt.as_str()) != (FORMAT, protocol, VERSION)
    }

    /// This netbelt writes it now, and speaks `protocol`.
    pub(super) fn stamp(&mut self, protocol: u32) {
        (self.format, self.protocol, self.netbelt) = (FORMAT, protocol, VERSION.to_owned());
    }

    /// Whether it is that node's.
    pub(super) fn check(&self, path: &Path, tool: &str, id: &str) -> Result<(), DataDirError> {
        if (self.tool.as_str(), self.id.as_str()) == (tool, id) {
            return Ok(());
        }
        Err(DataDirError::Other {
            path: path.to_owned(),
            tool: self.tool.clone(),
            id: self.id.clone(),
            wanted_tool: tool.to_owned(),
            wanted_id: id.to_owned(),
        })
    }
}

/// Takes the lock of the directory, for itself or with others who only read.
pub(super) fn lock(path: &Path, shared: bool) -> Result<File, DataDirError> {
    let lock_file = path.join(LOCK);
    let mut options = OpenOptions::new();
    let lock =
        if shared { options.read(true) } else { options.create(true).truncate(false).write(true) }.open(&lock_file);
    let lock = lock.map_err(io_error("open", &lock_file))?;
    match if shared { lock.try_lock_shared() } else { lock.try_lock() } {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &lock_file)(error)),
    }
}
