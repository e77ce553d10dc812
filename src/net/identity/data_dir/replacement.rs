//! Other content for a data directory, which a crash leaves as it was or whole.
//!
//! What gives way stays inside the directory, which may be a mount point, in `before-9f..`: a data directory like any other. The
//! new content is made ready in `new-cluster.tmp`, netbelt.json last. Then the old files move, netbelt.json first, and the new ones,
//! netbelt.json last. If a crash comes between, there is no netbelt.json in the directory and one in `new-cluster.tmp`: whoever
//! opens the directory next ends the work.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::net::identity::files::{DataDirError, IDENTITY, PEERS, STARTS, io_error};

/// Where the new content is made ready.
pub(super) const READY: &str = "new-cluster.tmp";
/// The file in it that names the place of the old content.
pub(super) const BEFORE: &str = "before";
pub(super) const LOG: &str = "log";

/// Whether a replacement was interrupted when the old content was no longer whole, and the new one not yet.
pub(super) fn is_interrupted(path: &Path) -> Result<bool, DataDirError> {
    let is_there = |file: PathBuf| file.try_exists().map_err(io_error("examine", &file));
    Ok(!is_there(path.join(IDENTITY))? && is_there(path.join(READY).join(IDENTITY))?)
}

/// Ends what was interrupted: if the old netbelt.json has gone, the rest follows, and otherwise nothing has been done. Whoever
/// holds the lock may do it.
pub(super) fn settle(path: &Path, _lock: &File) -> Result<(), DataDirError> {
    let ready = path.join(READY);
    if is_interrupted(path)? {
        let name = ready.join(BEFORE);
        let before = fs::read_to_string(&name).map_err(io_error("read", &name))?;
        let old = path.join(before.trim_end());
        let new_log = ready.join(LOG);
        if new_log.try_exists().map_err(io_error("examine", &new_log))? {
            move_into(&old, path, LOG)?;
            move_into(path, &ready, LOG)?;
        }
        for name in [PEERS, STARTS] {
            move_into(&old, path, name)?;
        }
        sync(&old)?;
        sync(path)?;
        move_into(path, &ready, IDENTITY)?;
        sync(path)?;
    }
    match fs::remove_dir_all(&ready) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &ready)(error)),
        _ => Ok(()),
    }
}

/// Moves a file from one directory to another one; one that is not there stays so.
pub(super) fn move_into(to: &Path, from: &Path, name: &str) -> Result<(), DataDirError> {
    match fs::rename(from.join(name), to.join(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("move", &from.join(name))(error)),
        _ => Ok(()),
    }
}

pub(super) fn sync(dir: &Path) -> Result<(), DataDirError> {
    let synced: io::Result<()> = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(io_error("make durable", dir))
}
