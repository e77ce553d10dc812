//! Whose data a directory holds.
//!
//! ```text
//! DIR/netbelt.json   {"format":1,"tool":"raft-node","id":"n1","members":["n1","n2","n3"]}
//! DIR/LOCK           locked by the process that uses the directory
//! DIR/log/           the log, see `disk`
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The newest format of a data directory that this netbelt knows.
pub const FORMAT: u32 = 1;

const IDENTITY: &str = "netbelt.json";
const LOCK: &str = "LOCK";

/// A data directory that this process, and no other, uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    tool: String,
    id: String,
    members: Vec<String>,
}

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
    #[error("{} is in use by another process: stop that one, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// It has files that netbelt did not put there.
    #[error("{} holds other files and no data of netbelt: choose an empty or a new --data-dir", .0.display())]
    Foreign(PathBuf),
    /// It belongs to another node or tool.
    #[error("{} belongs to {tool} {id}, not to {wanted_tool} {wanted_id}: choose another --data-dir, or start it as {id}", path.display())]
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
    /// It belongs to a cluster of other members. Started among others, a node could elect itself with fewer votes than its
    /// cluster needs, and their data would part for good.
    #[error(
        "{} belongs to a cluster of {found}, not of {wanted}: name all of them and no others with --peer (members \
         cannot be changed yet)",
        path.display()
    )]
    OtherMembers {
        /// The directory.
        path: PathBuf,
        /// The members it was made for.
        found: String,
        /// The members that were named.
        wanted: String,
    },
    /// A newer netbelt wrote it.
    #[error("{} has format {format}, this netbelt knows up to {FORMAT}: start the newer netbelt that wrote it", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        format: u32,
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

impl DataDir {
    /// Opens `path` for node `id` of `tool`, one of `members`, creating it when it is missing or empty.
    ///
    /// # Errors
    /// When somebody else's data is there, somebody else uses it, or the disk refuses.
    pub fn open(path: &Path, tool: &str, id: &str, members: &[&str]) -> Result<Self, DataDirError> {
        create_durably(path)?;
        let identity_file = path.join(IDENTITY);
        if !identity_file.try_exists().map_err(io_error("examine", &identity_file))? {
            // A start that was cut short leaves at most these behind.
            for entry in fs::read_dir(path).map_err(io_error("list", path))? {
                let name = entry.map_err(io_error("list", path))?.file_name();
                if ![LOCK, "netbelt.json.tmp", IDENTITY, "lost+found"].iter().any(|ours| name == *ours) {
                    return Err(DataDirError::Foreign(path.to_owned()));
                }
            }
        }
        let lock_file = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_file);
        let lock = lock.map_err(io_error("open", &lock_file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &lock_file)(error)),
        }
        let mut members: Vec<_> = members.iter().map(|&member| member.to_owned()).collect();
        members.sort_unstable();
        let wanted = Identity { format: FORMAT, tool: tool.to_owned(), id: id.to_owned(), members };
        match fs::read_to_string(&identity_file) {
            Ok(text) => check(path, &identity_file, &text, &wanted)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_durably(path, IDENTITY, &serde_json::to_vec(&wanted).expect("an identity is JSON"))?;
            }
            Err(error) => return Err(io_error("read", &identity_file)(error)),
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where the log lives.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

fn check(path: &Path, file: &Path, text: &str, wanted: &Identity) -> Result<(), DataDirError> {
    let damaged = |why: serde_json::Error| DataDirError::Damaged { path: file.to_owned(), why: why.to_string() };
    let found: Identity = serde_json::from_str(text).map_err(damaged)?;
    if found.format > FORMAT {
        return Err(DataDirError::Newer { path: path.to_owned(), format: found.format });
    }
    if (&found.tool, &found.id) != (&wanted.tool, &wanted.id) {
        return Err(DataDirError::Other {
            path: path.to_owned(),
            tool: found.tool,
            id: found.id,
            wanted_tool: wanted.tool.clone(),
            wanted_id: wanted.id.clone(),
        });
    }
    if found.members != wanted.members {
        let (found, wanted) = (found.members.join(", "), wanted.members.join(", "));
        return Err(DataDirError::OtherMembers { path: path.to_owned(), found, wanted });
    }
    Ok(())
}

/// Creates a directory and those above it that are missing, so that a crash does not take them away again.
fn create_durably(path: &Path) -> Result<(), DataDirError> {
    let above = path.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    match (fs::create_dir(path), above) {
        (Ok(()), Some(above)) => {
            File::open(above).and_then(|above| above.sync_all()).map_err(io_error("make durable", above))
        }
        (Err(error), _) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        (Err(error), Some(above)) if error.kind() == ErrorKind::NotFound => {
            create_durably(above)?;
            create_durably(path)
        }
        (Err(error), _) => Err(io_error("create", path)(error)),
        (Ok(()), None) => Ok(()),
    }
}

/// Writes a file so that after a crash it is there whole or not at all.
fn write_durably(dir: &Path, name: &str, content: &[u8]) -> Result<(), DataDirError> {
    let (temporary, file) = (dir.join(format!("{name}.tmp")), dir.join(name));
    let write = || {
        let mut out = File::create(&temporary)?;
        out.write_all(content)?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        fs::rename(&temporary, &file)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write", &file))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |source| DataDirError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_owner_and_lets_in_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]).unwrap();
        assert!(matches!(DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(
            matches!(DataDir::open(dir.path(), "raft-node", "n2", &["n1", "n2"]), Err(DataDirError::Other { id, .. }) if id == "n1")
        );
        assert!(DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]).is_ok());
    }

    #[test]
    fn a_directory_with_other_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]), Err(DataDirError::Foreign(_))));
        assert!(!dir.path().join("LOCK").exists());
    }

    #[test]
    fn a_newer_format_and_a_damaged_identity_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(IDENTITY), r#"{"format":2,"tool":"raft-node","id":"n1","members":["n1"]}"#).unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]),
            Err(DataDirError::Newer { format: 2, .. })
        ));
        fs::write(dir.path().join(IDENTITY), "{").unwrap();
        assert!(matches!(
            DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]),
            Err(DataDirError::Damaged { .. })
        ));
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("LOCK"), "").unwrap();
        fs::write(dir.path().join("netbelt.json.tmp"), "{").unwrap();
        assert!(DataDir::open(dir.path(), "raft-node", "n1", &["n1", "n2"]).is_ok());
    }

    /// A member started without its peers elected itself, and its data parted from theirs without a word.
    #[test]
    fn a_directory_is_refused_to_a_cluster_of_other_members() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(&dir.path().join("a/b"), "raft-node", "n1", &["n2", "n1"]).unwrap());
        drop(DataDir::open(&dir.path().join("a/b"), "raft-node", "n1", &["n1", "n2"]).expect("in any order"));
        let alone = DataDir::open(&dir.path().join("a/b"), "raft-node", "n1", &["n1"]).unwrap_err().to_string();
        assert!(alone.contains("n1, n2") && alone.contains("--peer"), "{alone}");
    }
}
