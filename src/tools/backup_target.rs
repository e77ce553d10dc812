//! Where a backup is written.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::{Failure, Output};
use crate::kv::backup::MAGIC;

/// An open backup.
pub(super) struct BackupTarget<'a> {
    path: PathBuf,
    to: To<'a>,
}

enum To<'a> {
    Stdout(&'a Output),
    /// Whole and durable under its name, or not there at all.
    File(NamedTempFile),
    /// A device, or a pipe.
    Other(File),
}

impl<'a> BackupTarget<'a> {
    /// Opens a file, or stdout for `-`.
    pub(super) fn open(path: &Path, output: &'a Output) -> Result<Self, Failure> {
        let to = if is_stdout(path) {
            if io::stdout().is_terminal() {
                return Err(Failure::usage("a backup is no text for a terminal: name a file with --out, or pipe it"));
            }
            To::Stdout(output)
        } else if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            To::Other(File::options().write(true).open(path).map_err(|error| failed(path, &error))?)
        } else {
            refuse_another(path)?;
            To::File(NamedTempFile::new_in(dir_of(path)).map_err(|error| failed(path, &error))?)
        };
        Ok(Self { path: path.to_owned(), to })
    }

    /// Writes what comes next.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.to {
            To::Stdout(output) => return output.bytes(bytes),
            To::File(file) => file.write_all(bytes),
            To::Other(file) => file.write_all(bytes),
        };
        written.map_err(|error| failed(&self.path, &error))
    }

    /// That was all.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let To::File(file) = self.to else { return Ok(()) };
        let durable = || {
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            File::open(dir_of(&self.path))?.sync_all()
        };
        durable().map_err(|error| failed(&self.path, &error))
    }
}

/// A newer backup takes the place of an older one, and of nothing else.
fn refuse_another(path: &Path) -> Result<(), Failure> {
    let mut begins = [0; MAGIC.len()];
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    match file.read(&mut begins) {
        Ok(read) if read > 0 && begins != MAGIC => Err(Failure::local(format!(
            "{} is there and is no backup of netbelt: it is left as it is, name another file with --out",
            path.display()
        ))),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether that is stdout.
pub(super) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot write the backup to {}: {error}", path.display()))
}
