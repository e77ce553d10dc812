//! Where the log begins, once it has forgotten what was before.
//!
//! An empty file `00000000000000000007.first` says that the log begins with segment 7: its name is all there is to it, so it
//! is there or it is not. It is durable before the first older segment goes. From then on those may go in any order, or come
//! back from a crash: nobody reads them, and the next start removes what is left of them. Without such a file the log begins
//! with segment 1, so that a first segment that was lost is missed.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Error;
use super::segment::{numbered, remove, sync_dir};

const EXTENSION: &str = "first";

/// The segment that the log in `dir` begins with, if somebody said so: the latest that was said counts.
pub(super) fn find(dir: &Path) -> Result<Option<u64>, Error> {
    Ok(numbered(dir, EXTENSION)?.pop())
}

/// The log in `dir` begins with segment `number` from now on, also after a crash.
pub(super) fn set(dir: &Path, number: u64) -> Result<(), Error> {
    let path = path(dir, number);
    File::create(&path).map_err(Error::io("create", &path))?;
    sync_dir(dir)?;
    for older in numbered(dir, EXTENSION)?.into_iter().filter(|older| *older < number) {
        let _ = remove(&self::path(dir, older)); // one that stays does no harm
    }
    Ok(())
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.{EXTENSION}"))
}
