//! Where the log begins, once it has forgotten what was before.
//!
//! An empty file `00000000000000000007-0000004096.first` says that the log begins with the frame at offset 4096 of segment 7:
//! its name is all there is to it, so it is there or it is not. It is durable before the first older segment goes. From then
//! on those may go in any order, or come back from a crash: nobody reads them, and the next start removes what is left of
//! them. Without such a file the log begins with segment 1, so that a first segment that was lost is missed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::segment::{HEADER_BYTES, is_named, remove, sync_dir};
use super::{Error, Place};

const EXTENSION: &str = "first";

/// Where the log in `dir` begins, if somebody said so: the latest that was said counts.
pub(super) fn find(dir: &Path) -> Result<Option<Place>, Error> {
    Ok(list(dir)?.pop().map(|(place, _)| place))
}

/// The log in `dir` begins at `place` from now on, also after a crash.
pub(super) fn set(dir: &Path, place: Place) -> Result<(), Error> {
    let path = path(dir, place);
    File::create(&path).map_err(Error::io("create", &path))?;
    sync_dir(dir)?;
    for (_, older) in list(dir)?.into_iter().filter(|(other, _)| *other < place) {
        let _ = remove(&older); // one that stays does no harm
    }
    Ok(())
}

/// What has been said in `dir`, the latest last.
fn list(dir: &Path) -> Result<Vec<(Place, PathBuf)>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let file = entry.map_err(Error::io("list", dir))?.path();
        if is_named(&file, EXTENSION) {
            let place = said_by(dir, &file).ok_or_else(|| Error::unknown(file.clone()))?;
            let said = fs::metadata(&file).map_err(Error::io("examine", &file))?;
            if said.len() > 0 {
                return Err(Error::NewerFile { file }); // it says more than its name
            }
            found.push((place, file));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The place that the name of `file` says. Earlier versions named a segment only, which a log then began with.
fn said_by(dir: &Path, file: &Path) -> Option<Place> {
    let name = file.file_stem()?.to_str()?;
    let (place, named) = match name.split_once('-') {
        Some((segment, offset)) => {
            let place = Place { segment: segment.parse().ok()?, offset: offset.parse().ok()? };
            (place, path(dir, place))
        }
        None => {
            let segment = name.parse().ok()?;
            (Place { segment, offset: HEADER_BYTES as u64 }, dir.join(format!("{segment:020}.{EXTENSION}")))
        }
    };
    (named == file).then_some(place)
}

fn path(dir: &Path, Place { segment, offset }: Place) -> PathBuf {
    dir.join(format!("{segment:020}-{offset:010}.{EXTENSION}"))
}
