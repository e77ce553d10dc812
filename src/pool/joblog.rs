//! Which commands have been run: a log in the columns of GNU parallel's `--joblog`, and what to skip by it.
//!
//! A command is known by a hash of its exact text, never by its number: when the input has changed in between, what is new
//! is run and what is known is skipped, wherever it stands. Two equal jobs need two lines.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::defaults::MAX_JOBLOG_LINE;

const HEADER: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// A log that is written to. Locked against other writers as long as it lives.
#[derive(Debug)]
pub struct Joblog {
    file: File,
    path: PathBuf,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The job's number.
    pub number: u64,
    /// When it was started, since 1970.
    pub started: Duration,
    /// How long it took, with all attempts.
    pub took: Duration,
    /// Bytes of its stdout.
    pub received: u64,
    /// Its exit code; -1 when its time was over.
    pub exit: i64,
    /// The signal that ended it, or 0.
    pub signal: i64,
    /// The command, quoted: one line without tabs.
    pub command: String,
}

/// Which commands of a log need not be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// All that were run.
    Finished,
    /// Those that ended well.
    Succeeded,
}

/// Commands that need not be run again, and how often each.
#[derive(Debug, Default)]
pub struct Seen {
    left: BTreeMap<[u8; 16], Lines>,
    failed: u64,
}

/// Lines of one command.
#[derive(Debug, Default)]
struct Lines {
    ok: u64,
    failed: u64,
}

/// Why a log cannot be used. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be opened, read or written.
    #[error("--joblog {}: {error}", path.display())]
    Io {
        /// Which log.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It would be overwritten.
    #[error("--joblog {} holds an earlier run: go on from it with --resume, or remove it", path.display())]
    Exists {
        /// Which log.
        path: PathBuf,
    },
    /// Someone else writes to it.
    #[error("--joblog {} is in use by another worker-pool: wait for it, or choose another file", path.display())]
    InUse {
        /// Which log.
        path: PathBuf,
    },
    /// It cannot be read back.
    #[error("--resume needs a regular file, and --joblog {} is none", path.display())]
    NoFile {
        /// Which log.
        path: PathBuf,
    },
    /// It is something else.
    #[error("--joblog {}, line {line}: {what}; this is no job log that can be resumed, and it has been left as it is", path.display())]
    Format {
        /// Which log.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Joblog {
    /// Begins a log. A file that holds something is refused.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let mut log = Self::open(path)?;
        if log.length()? > 0 {
            return Err(Error::Exists { path: log.path });
        }
        log.write(HEADER)?;
        Ok(log)
    }

    /// Goes on with a log, or begins it. Half a line at its end, of a run that was killed, is cut off.
    ///
    /// # Errors
    /// When that cannot be done, or when the file is no job log.
    pub fn resume(path: &Path, skip: Skip) -> Result<(Self, Seen), Error> {
        let mut log = Self::open(path)?;
        let failed = |error| Error::Io { path: path.to_owned(), error };
        if !log.file.metadata().map_err(failed)?.is_file() {
            return Err(Error::NoFile { path: log.path });
        }
        let (whole, seen) = read(&mut BufReader::new(&log.file), skip).map_err(|error| error.at(path))?;
        log.file.set_len(whole).map_err(failed)?;
        if whole == 0 {
            log.write(HEADER)?;
        }
        Ok((log, seen))
    }

    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Io { path: path.to_owned(), error };
        let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        let mut options = OpenOptions::new();
        options.append(true).read(!is_special).create(!is_special);
        let file = options.open(path).map_err(failed)?;
        if !is_special {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { path: path.to_owned() }),
                other => other.map_err(|error| failed(error.into()))?,
            }
        }
        Ok(Self { file, path: path.to_owned() })
    }

    fn length(&self) -> Result<u64, Error> {
        Ok(self.file.metadata().map_err(|error| Error::Io { path: self.path.clone(), error })?.len())
    }

    /// Appends a line, with one write: whoever kills this process finds whole lines.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        self.write(&entry.to_line())
    }

    fn write(&mut self, line: &str) -> Result<(), Error> {
        self.file.write_all(line.as_bytes()).map_err(|error| Error::Io { path: self.path.clone(), error })
    }
}

impl Entry {
    fn to_line(&self) -> String {
        let Self { number, started, took, received, exit, signal, command } = self;
        let (started, took) = (started.as_secs_f64(), took.as_secs_f64());
        format!("{number}\t:\t{started:.3}\t{took:>10.3}\t0\t{received}\t{exit}\t{signal}\t{command}\n")
    }

    /// Reads a line, without its newline.
    fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let line = str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
        let columns: Vec<_> = line.splitn(9, '\t').collect();
        let &[number, _host, started, took, _send, received, exit, signal, command] = columns.as_slice() else {
            return Err("it has fewer than nine columns");
        };
        let seconds = |text: &str| {
            let seconds = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            seconds.ok_or("its third and fourth column are not seconds")
        };
        Ok(Self {
            number: number.parse().map_err(|_| "its first column is no number")?,
            started: seconds(started)?,
            took: seconds(took)?,
            received: received.parse().map_err(|_| "its sixth column is no number")?,
            exit: exit.parse().map_err(|_| "its seventh column is no number")?,
            signal: signal.parse().map_err(|_| "its eighth column is no number")?,
            command: command.to_owned(),
        })
    }
}

impl Seen {
    /// Reads a log and leaves it as it is. One that does not exist tells of nothing.
    ///
    /// # Errors
    /// When it cannot be read, or is no job log.
    pub fn read(path: &Path, skip: Skip) -> Result<Self, Error> {
        match File::open(path) {
            Ok(file) => Ok(read(&mut BufReader::new(file), skip).map_err(|error| error.at(path))?.1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::Io { path: path.to_owned(), error }),
        }
    }

    /// Whether this command need not be run; counts as one of its lines.
    pub fn take(&mut self, command: &str) -> bool {
        match self.left.get_mut(&key(command)) {
            Some(left) if left.ok > 0 => left.ok -= 1,
            Some(left) if left.failed > 0 => {
                left.failed -= 1;
                self.failed += 1;
            }
            Some(_) | None => return false,
        }
        true
    }

    /// How many of those that were taken had failed, and not ended well since.
    pub const fn failed(&self) -> u64 {
        self.failed
    }
}

/// Half of SHA-256: for two commands out of any number to share it, somebody would have to find them on purpose, and would
/// need 2^64 steps.
fn key(command: &str) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::digest(command.as_bytes()).into();
    hash[..16].try_into().expect("half of it")
}

#[derive(Debug)]
enum ReadError {
    Io(io::Error),
    Format { line: u64, what: &'static str },
}

impl ReadError {
    fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Self::Io(error) => Error::Io { path, error },
            Self::Format { line, what } => Error::Format { path, line, what },
        }
    }
}

/// Reads a log: how many bytes of it are whole lines, and what they tell.
fn read(log: &mut impl BufRead, skip: Skip) -> Result<(u64, Seen), ReadError> {
    let mut seen = Seen::default();
    let (mut whole, mut number) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let length = log.take(MAX_JOBLOG_LINE as u64).read_until(b'\n', &mut line).map_err(ReadError::Io)?;
        let wrong = |what| Err(ReadError::Format { line: number, what });
        if length == MAX_JOBLOG_LINE {
            return wrong("it is too long");
        }
        if number == 1 {
            // A run may have been killed within the header.
            match line.as_slice() {
                header if header == HEADER.as_bytes() => {}
                torn if HEADER.as_bytes().starts_with(torn) => return Ok((0, seen)),
                _ => return wrong("it is not the header of a job log"),
            }
        } else {
            let Some(text) = line.strip_suffix(b"\n") else { return Ok((whole, seen)) };
            match Entry::parse(text) {
                Ok(entry) if (entry.exit, entry.signal) == (0, 0) => {
                    seen.left.entry(key(&entry.command)).or_default().ok += 1;
                }
                Ok(entry) if skip == Skip::Finished => {
                    seen.left.entry(key(&entry.command)).or_default().failed += 1;
                }
                Ok(_) => {}
                Err(what) => return wrong(what),
            }
        }
        whole += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(command: &str, exit: i64) -> Entry {
        Entry {
            number: 3,
            started: Duration::from_millis(1_700_000_000_125),
            took: Duration::from_millis(1500),
            received: 12,
            exit,
            signal: 0,
            command: command.to_owned(),
        }
    }

    #[test]
    fn a_line_has_the_columns_of_gnu_parallel() {
        assert_eq!(entry("echo 'a b'", 0).to_line(), "3\t:\t1700000000.125\t     1.500\t0\t12\t0\t0\techo 'a b'\n");
        let gnus = b"3\t:\t1795241327.958\t     1.144\t0\t0\t-1\t15\tsleep 5";
        let read = Entry::parse(gnus).unwrap();
        assert_eq!((read.exit, read.signal, read.command.as_str()), (-1, 15, "sleep 5"));
    }

    #[test]
    fn equal_jobs_need_as_many_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Joblog::create(&path).unwrap();
        for (command, exit) in [("a", 0), ("a", 1), ("b", 1)] {
            log.append(&entry(command, exit)).unwrap();
        }
        drop(log);
        let (_, mut seen) = Joblog::resume(&path, Skip::Finished).unwrap();
        assert_eq!(
            ["a", "a", "a", "b", "b", "c"].map(|command| seen.take(command)),
            [true, true, false, true, false, false]
        );
        assert_eq!(seen.failed(), 2);
        let (_, mut seen) = Joblog::resume(&path, Skip::Succeeded).unwrap();
        assert_eq!(["a", "a", "b"].map(|command| seen.take(command)), [true, false, false]);
    }

    #[test]
    fn a_log_is_not_overwritten_nor_written_by_two() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Joblog::create(&path).unwrap();
        assert!(matches!(Joblog::resume(&path, Skip::Finished), Err(Error::InUse { .. })));
        drop(log);
        assert!(matches!(Joblog::create(&path), Err(Error::Exists { .. })));
        fs::write(&path, "dear diary\n").unwrap();
        assert!(matches!(Joblog::resume(&path, Skip::Finished), Err(Error::Format { line: 1, .. })));
        assert_eq!(fs::read(&path).unwrap(), b"dear diary\n");
    }

    proptest! {
        #[test]
        fn a_log_cut_anywhere_tells_of_its_whole_lines(commands in prop::collection::vec("[a-c]{1,3}", 0..6), cut in 0.0..1.0) {
            let lines: Vec<_> = commands.iter().map(|command| entry(command, 0).to_line()).collect();
            let text = format!("{HEADER}{}", lines.concat());
            let cut = (cut * text.len() as f64) as usize;
            let (whole, seen) = read(&mut &text.as_bytes()[..cut], Skip::Finished).unwrap();
            let wanted = text[..cut].rfind('\n').map_or(0, |end| end + 1);
            prop_assert_eq!(whole, wanted as u64);
            prop_assert_eq!(seen.left.values().map(|lines| lines.ok).sum::<u64>() as usize, text[..wanted].lines().count().saturating_sub(1));
        }

        #[test]
        fn what_is_no_log_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), header: bool) {
            let text = if header { [HEADER.as_bytes(), &bytes].concat() } else { bytes };
            let _ = read(&mut text.as_slice(), Skip::Finished);
        }

        #[test]
        fn what_is_written_is_read_back(number: u64, exit: i32, signal: u8, received: u64, command in "[ -~]{0,20}") {
            let entry = Entry { number, exit: exit.into(), signal: signal.into(), received, ..entry(&command, 0) };
            let line = entry.to_line();
            prop_assert_eq!(Entry::parse(line.trim_end_matches('\n').as_bytes()), Ok(entry));
        }
    }
}
