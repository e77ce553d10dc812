//! A data directory without its node: to be read, or to be given other content.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::identity::{Identity, lock};
use super::replacement::{BEFORE, LOG, READY, is_interrupted, move_into, settle, sync};
use crate::net::identity::files::{DataDirError, IDENTITY, io_error, write_durably};
use crate::net::identity::random_id::RandomId;

/// A data directory that no node uses, and none will while this is there.
#[derive(Debug)]
pub struct Remains {
    path: PathBuf,
    identity: Identity,
    /// None, where nobody could ever lock anything.
    lock: Option<File>,
}

impl Remains {
    /// Looks at the directory of some node of `tool`, a copy as well as the original, and changes nothing in it.
    ///
    /// # Errors
    /// When there is none, a node uses it, or a newer netbelt wrote it.
    pub fn look(path: &Path, tool: &str) -> Result<Self, DataDirError> {
        let lock = match lock(path, true) {
            Err(DataDirError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            lock => Some(lock?),
        };
        if is_interrupted(path)? {
            return Err(DataDirError::Interrupted(path.to_owned()));
        }
        let identity = Identity::read(path)?.ok_or_else(|| DataDirError::Nothing(path.to_owned()))?;
        identity.check(path, tool, &identity.id)?;
        Ok(Self { path: path.to_owned(), identity, lock })
    }

    /// Takes the directory of node `id` of `tool`, a copy as well as the original, to give it other content.
    ///
    /// # Errors
    /// When there is none, another process uses it, or a newer netbelt wrote it.
    pub fn take(path: &Path, tool: &str, id: &str) -> Result<Self, DataDirError> {
        let is_there = path.join(IDENTITY).try_exists().map_err(io_error("examine", path))?;
        if !is_there && !is_interrupted(path)? {
            return Err(DataDirError::Nothing(path.to_owned()));
        }
        let lock = lock(path, false)?;
        settle(path, &lock)?;
        let identity = Identity::read(path)?.ok_or_else(|| DataDirError::Nothing(path.to_owned()))?;
        identity.check(path, tool, id)?;
        Ok(Self { path: path.to_owned(), identity, lock: Some(lock) })
    }

    /// The node that it belongs to.
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// The members that its cluster began with, and their addresses; none, if the node joined it later.
    pub const fn first_members(&self) -> &BTreeMap<String, String> {
        &self.identity.members
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where to make the log that is to replace what is there. Until [`Remains::replace`] nothing has been done.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn new_log(&self) -> Result<PathBuf, DataDirError> {
        let ready = self.path.join(READY);
        fs::create_dir(&ready).map_err(io_error("create", &ready))?;
        Ok(ready.join(LOG))
    }

    /// Nothing replaces what is there.
    pub fn give_up(self) {
        let _ = fs::remove_dir_all(self.path.join(READY)); // the next one who takes the directory does it
    }

    /// Gives the directory another incarnation and the log that was made for it: the node joins no cluster and begins none, but is
    /// in the one that this log says. What was there moves to the directory `before` in it, which is returned.
    /// The node speaks `protocol` from now on.
    ///
    /// # Errors
    /// When the disk refuses. Then the directory is what it was, or whoever opens it next ends the work.
    pub fn replace(mut self, before: &str, incarnation: RandomId, protocol: u32) -> Result<PathBuf, DataDirError> {
        let lock = self.lock.take().expect("it was taken");
        let (ready, old) = (self.path.join(READY), self.path.join(before));
        write_durably(&ready, BEFORE, |_| before.as_bytes().to_vec())?;
        let mut identity = Identity { incarnation, members: BTreeMap::new(), founding: false, ..self.identity };
        identity.stamp(protocol);
        identity.write(&ready)?;
        sync(&self.path)?;
        let _ = fs::remove_dir(&old); // an empty one, of a try that was interrupted here
        fs::create_dir(&old).map_err(io_error("create", &old))?;
        move_into(&old, &self.path, IDENTITY)?;
        settle(&self.path, &lock)?;
        Ok(old)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Claim, DataDir};
    use super::*;

    const NAMES: [&str; 4] = ["netbelt.json", "log", "peers.json", "starts.json"];

    /// A directory of n1 with a log, and the files that nodes keep.
    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::create_dir(dir.path().join(LOG)).unwrap();
        for name in ["log/1", "peers.json", "starts.json"] {
            fs::write(dir.path().join(name), "old").unwrap();
        }
        dir
    }

    fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let members = BTreeMap::from([("n1".to_owned(), "a:1".to_owned()), ("n2".to_owned(), "b:2".to_owned())]);
        DataDir::open(
            path,
            &Claim {
                tool: "raft-node",
                protocol: 2,
                id: "n1",
                incarnation: RandomId(7),
                members: &members,
                moved: false,
            },
        )
    }

    fn take(path: &Path) -> Remains {
        Remains::take(path, "raft-node", "n1").unwrap()
    }

    fn make_log(remains: &Remains) {
        let log = remains.new_log().unwrap();
        fs::create_dir(&log).unwrap();
        fs::write(log.join("1"), "new").unwrap();
    }

    #[track_caller]
    fn assert_replaced(dir: &Path) {
        let opened = open(dir).unwrap();
        assert!(!opened.is_new() && opened.incarnation() == RandomId(8) && opened.first_members().is_empty());
        assert_eq!(fs::read_to_string(dir.join("log/1")).unwrap(), "new");
        assert!(!dir.join("peers.json").exists() && !dir.join("starts.json").exists() && !dir.join(READY).exists());
        assert_eq!(fs::read_to_string(dir.join("before-1/log/1")).unwrap(), "old");
        let old = open(&dir.join("before-1")).expect("it is a directory like any other");
        assert_eq!((old.incarnation(), old.first_members().len()), (RandomId(7), 2));
    }

    #[test]
    fn what_gives_way_is_kept_whole() {
        let dir = directory();
        let remains = take(dir.path());
        assert!(matches!(open(dir.path()), Err(DataDirError::InUse(_))));
        assert!(matches!(Remains::look(dir.path(), "raft-node"), Err(DataDirError::InUse(_))));
        assert_eq!((remains.id(), remains.first_members().len()), ("n1", 2));
        make_log(&remains);
        assert_eq!(remains.replace("before-1", RandomId(8), 2).unwrap(), dir.path().join("before-1"));
        assert_replaced(dir.path());
    }

    #[test]
    fn a_replacement_that_a_crash_interrupts_anywhere_is_ended_or_was_never_begun() {
        // As far as `replace` and `settle` come: the old files go in this order, and the new log before the last two.
        for steps in 0..=5 {
            let dir = directory();
            let remains = take(dir.path());
            make_log(&remains);
            let (at, ready, old) = (dir.path(), dir.path().join(READY), dir.path().join("before-1"));
            write_durably(&ready, BEFORE, |_| b"before-1".to_vec()).unwrap();
            let mut identity =
                Identity { incarnation: RandomId(8), members: BTreeMap::new(), ..remains.identity.clone() };
            identity.write(&ready).unwrap();
            fs::create_dir(&old).unwrap();
            let mut moves = vec![(at, old.as_path(), NAMES[0]), (at, &old, NAMES[1]), (&ready, at, LOG)];
            moves.extend([(at, old.as_path(), NAMES[2]), (at, &old, NAMES[3])]);
            for (from, to, name) in &moves[..steps] {
                move_into(to, from, name).unwrap();
            }
            drop(remains);
            if steps > 0 {
                assert!(matches!(Remains::look(at, "raft-node"), Err(DataDirError::Interrupted(_))), "{steps}");
                assert!(open(at).is_ok(), "{steps}");
                assert_replaced(at);
            } else {
                assert_eq!(open(at).unwrap().incarnation(), RandomId(7));
                assert_eq!(take(at).id(), "n1");
                assert!(!ready.exists(), "it is made anew");
            }
        }
    }

    #[test]
    fn to_look_changes_nothing_and_several_may_do_it() {
        let dir = directory();
        let first = Remains::look(dir.path(), "raft-node").unwrap();
        let second = Remains::look(dir.path(), "raft-node").unwrap();
        assert_eq!(first.log(), second.log());
        assert!(matches!(open(dir.path()), Err(DataDirError::InUse(_))));
        drop((first, second));
        open(dir.path()).unwrap();
        let nothing = tempfile::tempdir().unwrap();
        assert!(matches!(Remains::look(nothing.path(), "raft-node"), Err(DataDirError::Nothing(_))));
        assert!(matches!(Remains::take(nothing.path(), "raft-node", "n1"), Err(DataDirError::Nothing(_))));
        assert_eq!(fs::read_dir(nothing.path()).unwrap().count(), 0);
    }
}
