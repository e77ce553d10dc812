//! How many files may be open, which belongs to the process as a whole, and is handed on to what it starts.
//!
//! Many jobs need more files than the usual soft limit of 1024, so it is raised for them; but commands must not see that: old
//! ones use `select`, or close all descriptors one by one. A command gets the limit of the moment in which it is started. So
//! for that moment the limit is what it was before, and nobody opens a file meanwhile. What is handed to the command must have
//! a number below that limit; so what is kept is moved out of the way ([`keep`]).

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::{OnceLock, PoisonError, RwLock};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that commands get, if it has been raised.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();
/// Held by those who open files, and alone by whoever starts a command with the original limit.
static OPENING: RwLock<()> = RwLock::new(());

/// How many more files may be opened.
pub fn left() -> u64 {
    getrlimit(Resource::Nofile).current.map_or(u64::MAX, |limit| limit.saturating_sub(open()))
}

/// Files that are open. Without `/proc`: those that every process has, and a few.
fn open() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(32, |all| all.count() as u64 - 1) // the directory itself is open meanwhile
}

/// Raises the limit, as far as it may be raised, so that so many more files may be opened; commands do not get it.
pub fn raise(more: u64) {
    let needed = open().saturating_add(more);
    let original = getrlimit(Resource::Nofile);
    if original.current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = Rlimit { current: Some(original.maximum.map_or(needed, |most| most.min(needed))), ..original };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => drop(ORIGINAL.set(original)), // the first one is what commands shall get
        Err(error) => tracing::debug!("cannot raise the limit of open files: {error}"),
    }
}

/// Moves a file that is not for commands to a number that they could not have.
pub fn keep(file: OwnedFd) -> OwnedFd {
    let Some(limit) = ORIGINAL.get().and_then(|original| original.current) else { return file };
    fcntl_dupfd_cloexec(&file, i32::try_from(limit).unwrap_or(i32::MAX)).unwrap_or(file) // as good a place as any
}

/// Opens files.
pub fn opening<T>(open: impl FnOnce() -> T) -> T {
    let _together = OPENING.read().unwrap_or_else(PoisonError::into_inner);
    open()
}

/// Starts a command, which opens no file of this process, with the limit that this process was started with.
pub fn starting<T>(start: impl FnOnce() -> T) -> T {
    let Some(original) = ORIGINAL.get() else { return start() };
    let _alone = OPENING.write().unwrap_or_else(PoisonError::into_inner);
    let raised = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: original.current, maximum: raised.maximum };
    let set = |limit| setrlimit(Resource::Nofile, limit).expect("a soft limit up to the hard one may be set");
    set(lowered);
    let started = start();
    set(raised);
    started
}
