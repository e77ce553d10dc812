//! Whose data a directory holds.
//!
//! ```text
//! DIR/netbelt.json   {"format":2,"protocol":1,"netbelt":"0.1.0","tool":"raft-node","id":"n1","incarnation":"5f..",
//!                     "file":{"inode":12,"born":99},"members":{"n1":"127.0.0.1:7001","n2":"127.0.0.1:7002"}}
//! DIR/starts.json    how often it was started, see `starts`
//! DIR/peers.json     whom the node has met, see `known_peers`
//! DIR/LOCK           locked by the process that uses the directory
//! DIR/log/           the log, see `disk`
//! DIR/before-9f../   what was here before `raft-node --force-new-cluster`, see `remains`
//! ```
//!
//! `file` is what the file system calls netbelt.json: a copy of the directory has another one, by which it is known.
//!
//! # Versions
//!
//! `format` counts the formats of the directory as a whole: whoever changes what any of its files may hold counts it up. A netbelt
//! that finds an older format writes its own into netbelt.json, durably, before it writes anything else. So one that is too old
//! for the directory finds out there, and can say so, whatever has become of the other files. `netbelt` is the version that wrote
//! it last, and `protocol` what its node spoke with its peers. Format 1 had neither.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::random_id::RandomId;
use crate::wire::PROTOCOL;

/// The newest format of a data directory that this netbelt knows.
pub const FORMAT: u32 = 2;

/// The version of this netbelt.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

mod remains;

pub use remains::Remains;

const IDENTITY: &str = "netbelt.json";
const LOCK: &str = "LOCK";

/// A data directory that this process, and no other, uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    is_new: bool,
    _lock: File,
}

/// Who wants a data directory, and what it is to hold if it is new.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The tool.
    pub tool: &'a str,
    /// The node.
    pub id: &'a str,
    /// A fresh random number.
    pub incarnation: RandomId,
    /// The members that the cluster begins with, and their addresses; none for a node that joins one.
    pub members: &'a BTreeMap<String, String>,
    /// The operator says that the directory was moved, and that there is no other one left.
    pub moved: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    #[serde(default)]
    protocol: u32,
    #[serde(default)]
    netbelt: String,
    tool: String,
    id: String,
    incarnation: RandomId,
    file: FileName,
    members: BTreeMap<String, String>,
    /// It is new until the node has begun, which `peers.json` says; false where a netbelt wrote this that begins at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    founding: bool,
}

/// What a file system calls a file: a copy has another inode, or at least another time of birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileName {
    inode: u64,
    /// Nanoseconds since 1970, where the file system says so.
    born: Option<u64>,
}

impl FileName {
    fn of(file: &Metadata) -> Self {
        let born = file.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self { inode: file.ino(), born: born.map(|since| since.as_nanos() as u64) }
    }

    fn may_be(self, other: Self) -> bool {
        self.inode == other.inode && (self.born.is_none() || other.born.is_none() || self.born == other.born)
    }
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

impl DataDir {
    /// Opens `path` for whoever claims it, creating it when it is missing or empty.
    ///
    /// # Errors
    /// When somebody else's data is there, somebody else uses it, it is a copy, or the disk refuses.
    pub fn open(path: &Path, claim: &Claim<'_>) -> Result<Self, DataDirError> {
        create_durably(path)?;
        let identity_file = path.join(IDENTITY);
        if remains::is_interrupted(path)? {
            remains::settle(path, &lock(path, false)?)?;
        }
        if !identity_file.try_exists().map_err(io_error("examine", &identity_file))? {
            // A start that was cut short leaves at most these behind.
            for entry in fs::read_dir(path).map_err(io_error("list", path))? {
                let name = entry.map_err(io_error("list", path))?.file_name();
                if ![LOCK, "netbelt.json.tmp", IDENTITY, "lost+found"].iter().any(|ours| name == *ours) {
                    return Err(DataDirError::Foreign(path.to_owned()));
                }
            }
        }
        let lock = lock(path, false)?;
        let found = Identity::read(path)?;
        if let Some(found) = &found {
            found.check(path, claim.tool, claim.id)?;
        }
        let is_new = found.is_none();
        let mut identity = found.unwrap_or_else(|| Identity {
            format: FORMAT,
            protocol: PROTOCOL,
            netbelt: VERSION.to_owned(),
            tool: claim.tool.to_owned(),
            id: claim.id.to_owned(),
            incarnation: claim.incarnation,
            file: FileName { inode: 0, born: None },
            members: claim.members.clone(),
            founding: claim.members.len() > 1,
        });
        let file = || fs::metadata(&identity_file).map(|file| FileName::of(&file));
        if is_new || !identity.file.may_be(file().map_err(io_error("examine", &identity_file))?) {
            if !is_new && !claim.moved {
                return Err(DataDirError::Copied { path: path.to_owned(), id: identity.id });
            }
            identity.write(path)?;
        }
        if identity.is_of_another_version() {
            let before = identity.format;
            identity.stamp();
            match identity.write(path) {
                Ok(()) if before < FORMAT => tracing::info!("{} has format {FORMAT} now", path.display()),
                Ok(()) => {}
                Err(error) if error.is_full() => tracing::warn!("{error}; {} keeps format {before}", path.display()),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { path: path.to_owned(), identity, is_new, _lock: lock })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The random number that tells it from any other, earlier ones of the same node included.
    pub const fn incarnation(&self) -> RandomId {
        self.identity.incarnation
    }

    /// The members that its cluster began with, and their addresses; none, if the node joined it later.
    pub const fn first_members(&self) -> &BTreeMap<String, String> {
        &self.identity.members
    }

    /// Whether its node has to wait until its peers say that they are as new, as long as it has not begun.
    pub const fn is_founding(&self) -> bool {
        self.identity.founding
    }

    /// The node has not begun, and is to begin with these members: nothing is lost that was promised.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin_with(&mut self, members: &BTreeMap<String, String>) -> Result<(), DataDirError> {
        self.identity.members.clone_from(members);
        self.identity.founding = members.len() > 1;
        self.identity.write(&self.path)
    }

    /// Whether it was made just now.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where the log lives.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

impl Identity {
    /// What the directory says of itself, if it says anything.
    fn read(path: &Path) -> Result<Option<Self>, DataDirError> {
        read_json(&path.join(IDENTITY), FORMAT).map_err(|error| match error {
            DataDirError::Newer { format, known, .. } => DataDirError::Newer { path: path.to_owned(), format, known },
            error => error,
        })
    }

    fn write(&mut self, path: &Path) -> Result<(), DataDirError> {
        write_durably(path, IDENTITY, |file| {
            self.file = FileName::of(file);
            serde_json::to_vec(self).expect("an identity is JSON")
        })
    }

    fn is_of_another_version(&self) -> bool {
        (self.format, self.protocol, self.netbelt.as_str()) != (FORMAT, PROTOCOL, VERSION)
    }

    /// This netbelt writes it now.
    fn stamp(&mut self) {
        (self.format, self.protocol, self.netbelt) = (FORMAT, PROTOCOL, VERSION.to_owned());
    }

    /// Whether it is that node's.
    fn check(&self, path: &Path, tool: &str, id: &str) -> Result<(), DataDirError> {
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
fn lock(path: &Path, shared: bool) -> Result<File, DataDirError> {
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
fn create_durably(path: &Path) -> Result<(), DataDirError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open_as(path: &Path, id: &str, moved: bool) -> Result<DataDir, DataDirError> {
        let members = BTreeMap::from([("n1".to_owned(), "a:1".to_owned()), ("n2".to_owned(), "b:2".to_owned())]);
        DataDir::open(path, &Claim { tool: "raft-node", id, incarnation: RandomId(7), members: &members, moved })
    }

    fn open(path: &Path) -> Result<DataDir, DataDirError> {
        open_as(path, "n1", false)
    }

    #[test]
    fn a_directory_keeps_its_owner_and_lets_in_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(matches!(open_as(dir.path(), "n2", false), Err(DataDirError::Other { id, .. }) if id == "n1"));
        assert!(open(dir.path()).is_ok());
    }

    #[test]
    fn a_directory_keeps_its_incarnation_and_the_members_its_cluster_began_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = open(&path).unwrap();
        assert!(first.is_new() && first.incarnation() == RandomId(7));
        drop(first);
        let claim =
            Claim { tool: "raft-node", id: "n1", incarnation: RandomId(8), members: &BTreeMap::new(), moved: false };
        let second = DataDir::open(&path, &claim).unwrap();
        assert!(!second.is_new() && second.incarnation() == RandomId(7));
        assert_eq!(second.first_members().keys().collect::<Vec<_>>(), ["n1", "n2"]);
    }

    #[test]
    fn a_directory_whose_node_has_not_begun_may_begin_with_other_members_and_an_older_one_has_begun() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path()).unwrap();
        assert!(first.is_founding());
        first.begin_with(&BTreeMap::from([("n1".to_owned(), String::new())])).unwrap();
        drop(first);
        let again = open(dir.path()).unwrap();
        assert!(!again.is_founding() && again.incarnation() == RandomId(7));
        assert_eq!(again.first_members().len(), 1);
        drop(again);
        let file = dir.path().join(IDENTITY);
        let older =
            fs::read_to_string(&file).unwrap().replace(r#""members":{"n1":"""#, r#""members":{"n1":"","n2":"""#);
        fs::write(&file, older).unwrap(); // in place: the same file
        let older = open(dir.path()).unwrap();
        assert!(older.first_members().len() == 2 && !older.is_founding());
    }

    #[test]
    fn a_directory_with_other_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::Foreign(_))));
        assert!(!dir.path().join("LOCK").exists());
    }

    #[test]
    fn a_newer_format_and_a_damaged_identity_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(IDENTITY), r#"{"format":3,"whatever":"it holds"}"#).unwrap();
        assert!(matches!(open(dir.path()), Err(DataDirError::Newer { format: 3, .. })));
        for damaged in ["{", "", r#"{"format":1}"#] {
            fs::write(dir.path().join(IDENTITY), damaged).unwrap();
            assert!(matches!(open(dir.path()), Err(DataDirError::Damaged { .. })), "{damaged}");
        }
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("LOCK"), "").unwrap();
        fs::write(dir.path().join("netbelt.json.tmp"), "{").unwrap();
        assert!(open(dir.path()).is_ok());
    }

    #[test]
    fn a_copy_is_refused_until_somebody_says_that_it_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
        drop(open(&original).unwrap());
        fs::create_dir(&copy).unwrap();
        fs::copy(original.join(IDENTITY), copy.join(IDENTITY)).unwrap();
        let said = open(&copy).unwrap_err().to_string();
        assert!(said.contains(copy.to_str().unwrap()), "{said}");
        drop(open_as(&copy, "n1", true).expect("it was moved"));
        drop(open(&copy).expect("once is enough"));
        drop(open(&original).expect("the original is what it was"));

        let renamed = dir.path().join("renamed");
        fs::rename(&original, &renamed).unwrap();
        drop(open(&renamed).expect("a new name makes no copy"));
    }
}
