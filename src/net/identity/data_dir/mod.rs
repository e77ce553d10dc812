//! Whose data a directory holds.
//!
//! ```text
//! DIR/netbelt.json   {"format":2,"protocol":2,"netbelt":"0.1.0","tool":"raft-node","id":"n1","incarnation":"5f..",
//!                     "file":{"inode":12,"born":99},"members":{"n1":"127.0.0.1:7001","n2":"127.0.0.1:7002"}}
//! DIR/starts.json    how often it was started, see `boot_history`
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
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::files::{self, IDENTITY, create_durably, io_error};
use super::random_id::RandomId;

mod identity;
mod remains;
mod replacement;

pub use files::{DataDirError, VERSION};
pub use identity::FORMAT;
pub use remains::Remains;

use identity::{FileName, Identity, LOCK, lock};

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
    /// The number of what it speaks with its peers.
    pub protocol: u32,
    /// The node.
    pub id: &'a str,
    /// A fresh random number.
    pub incarnation: RandomId,
    /// The members that the cluster begins with, and their addresses; none for a node that joins one.
    pub members: &'a BTreeMap<String, String>,
    /// The operator says that the directory was moved, and that there is no other one left.
    pub moved: bool,
}

impl DataDir {
    /// Opens `path` for whoever claims it, creating it when it is missing or empty.
    ///
    /// # Errors
    /// When somebody else's data is there, somebody else uses it, it is a copy, or the disk refuses.
    pub fn open(path: &Path, claim: &Claim<'_>) -> Result<Self, DataDirError> {
        create_durably(path)?;
        let identity_file = path.join(IDENTITY);
        if replacement::is_interrupted(path)? {
            replacement::settle(path, &lock(path, false)?)?;
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
            protocol: claim.protocol,
            netbelt: VERSION.to_owned(),
            tool: claim.tool.to_owned(),
            id: claim.id.to_owned(),
            incarnation: claim.incarnation,
            file: FileName { inode: 0, born: None },
            members: claim.members.clone(),
            founding: claim.members.len() > 1,
        });
        let file = || fs::metadata(&identity_file).map(|file| FileName::of(&file));
        if is_new || !identity.file.is_possibly(file().map_err(io_error("examine", &identity_file))?) {
            if !is_new && !claim.moved {
                return Err(DataDirError::Copied { path: path.to_owned(), id: identity.id });
            }
            identity.write(path)?;
        }
        if identity.is_of_another_version(claim.protocol) {
            let before = identity.format;
            identity.stamp(claim.protocol);
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
        self.path.join(replacement::LOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_as(path: &Path, id: &str, moved: bool) -> Result<DataDir, DataDirError> {
        let members = BTreeMap::from([("n1".to_owned(), "a:1".to_owned()), ("n2".to_owned(), "b:2".to_owned())]);
        DataDir::open(
            path,
            &Claim { tool: "raft-node", protocol: 2, id, incarnation: RandomId(7), members: &members, moved },
        )
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
        let claim = Claim {
            tool: "raft-node",
            protocol: 2,
            id: "n1",
            incarnation: RandomId(8),
            members: &BTreeMap::new(),
            moved: false,
        };
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
