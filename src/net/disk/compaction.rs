//! Where a log begins that was compacted.
//!
//! An empty file `00000000000000000007-0000004096.first` says that the log begins with the frame at offset 4096 of segment 7:
//! its name is all there is to it, so it is there or it is not. It is durable before the first older segment goes. From then
//! on those may go in any order, or come back from a crash: nobody reads them, and the next start removes what is left of
//! them. Without such a file the log begins with segment 1, so that a first segment that was lost is missed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::frame::LogOffset;
use super::segment::{HEADER_BYTES, is_named, remove, sync_dir};

const EXTENSION: &str = "first";

/// Where the log in `dir` begins, if somebody said so: the latest that was said counts.
pub(super) fn find(dir: &Path) -> Result<Option<LogOffset>, Error> {
    Ok(list(dir)?.pop().map(|(at, _)| at))
}

/// The log in `dir` begins at `at` from now on, also after a crash.
pub(super) fn set(dir: &Path, at: LogOffset) -> Result<(), Error> {
    let path = path(dir, at);
    File::create(&path).map_err(Error::io("create", &path))?;
    sync_dir(dir)?;
    for (_, older) in list(dir)?.into_iter().filter(|(other, _)| *other < at) {
        let _ = remove(&older); // one that stays does no harm
    }
    Ok(())
}

/// What has been said in `dir`, the latest last.
fn list(dir: &Path) -> Result<Vec<(LogOffset, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let file = entry.map_err(Error::io("list", dir))?.path();
        if is_named(&file, EXTENSION) {
            let at = said_by(dir, &file).ok_or_else(|| Error::unknown(file.clone()))?;
            let said = fs::metadata(&file).map_err(Error::io("examine", &file))?;
            if said.len() > 0 {
                return Err(Error::NewerFile { file }); // it says more than its name
            }
            found.push((at, file));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The offset that the name of `file` says. Earlier versions named a segment only, which a log then began with.
fn said_by(dir: &Path, file: &Path) -> Option<LogOffset> {
    let name = file.file_stem()?.to_str()?;
    let (at, named) = match name.split_once('-') {
        Some((segment, offset)) => {
            let at = LogOffset { segment: segment.parse().ok()?, offset: offset.parse().ok()? };
            (at, path(dir, at))
        }
        None => {
            let segment = name.parse().ok()?;
            (LogOffset { segment, offset: HEADER_BYTES as u64 }, dir.join(format!("{segment:020}.{EXTENSION}")))
        }
    };
    (named == file).then_some(at)
}

fn path(dir: &Path, LogOffset { segment, offset }: LogOffset) -> PathBuf {
    dir.join(format!("{segment:020}-{offset:010}.{EXTENSION}"))
}
