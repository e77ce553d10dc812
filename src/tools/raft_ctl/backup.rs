//! `raft-ctl snapshot`, and how a backup is read.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use hyper::Method;
use hyper::body::Bytes;
use serde_json::json;

use super::cluster::{Ask, Cluster, SERVER, expect_ok, failure};
use crate::cli::{Failure, Kind, Output, signals};
use crate::defaults::CLIENT_STALL;
use crate::http::client::{Client, ClientError, Stream};
use crate::http::raft::backup::{LAST, THROUGH};
use crate::kv::backup::{self, Header, Part};
use crate::kv::command::Versioned;
use crate::kv::snapshot;
use crate::threads;
use crate::tools::backup_target::{BackupTarget, is_stdout};

/// What to do with a snapshot.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    raft-ctl snapshot --out today.backup\n  \
    raft-ctl snapshot --out - | zstd > today.backup.zst\n  \
    raft-ctl --nodes 127.0.0.1:7001 snapshot    # that node writes one into its own log\n  \
    raft-ctl --nodes 127.0.0.1:7001 snapshot --stale --out n1.backup    # what that node has, without a leader")]
pub(super) struct Options {
    /// Back the cluster up into this file, or to stdout for - [default: the node writes a snapshot into its own log, and
    /// forgets what it replaces]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Back up what the first node that answers has, which may be out of date: no leader is needed. Entries that the node does not
    /// know to be committed are not in it; raft-node dump has them, too
    #[arg(long, requires = "out")]
    stale: bool,
}

/// Backs up, or has a node write a snapshot of its own.
pub(super) async fn run(cluster: &Cluster, options: &Options, output: &Output) -> Result<(), Failure> {
    match &options.out {
        None => signals::interruptible(compact(cluster, output)).await,
        Some(out) => back_up(cluster, out, options.stale, output).await,
    }
}

async fn compact(cluster: &Cluster, output: &Output) -> Result<(), Failure> {
    let path = "/snapshot".to_owned();
    let ask = Ask { method: Method::POST, path, body: Bytes::new(), name: None, if_version: None };
    let answer = expect_ok(&cluster.ask(ask).await?, "the snapshot")?;
    output.result(&answer, || match answer["snapshotIndex"].as_u64() {
        Some(index) => format!("ok, through entry {index}"),
        None => "ok".to_owned(), // the node was stopped before it could tell
    })
}

async fn back_up(cluster: &Cluster, out: &Path, stale: bool, output: &Output) -> Result<(), Failure> {
    let to_stdout = is_stdout(out);
    let (file, bytes) = (out.display().to_string(), Cell::new(0));
    let ended = signals::interruptible(write(cluster, out, stale, &bytes, output)).await;
    if let Ok(Summary { through, last, .. }) = &ended
        && stale
        && through < last
    {
        tracing::warn!(
            "that node has entries to {last} and does not know whether those after {through} are committed: they are not in the \
             backup (raft-node dump, with the node stopped, takes them, too)"
        );
    }
    match &ended {
        Ok(Summary { header, keys, through, .. }) if to_stdout => {
            tracing::info!("{keys} keys at version {}, {} bytes, through entry {through}", header.version, bytes.get());
        }
        Ok(Summary { header, keys, through, last }) => {
            let cluster = header.cluster.map(|cluster| format!("{cluster:016x}"));
            let summary = json!({
                "event": "summary", "file": file, "keys": keys, "version": header.version, "bytes": bytes.get(),
                "cluster": cluster, "through": through, "last": last, "stale": stale, "interrupted": false
            });
            output.result(&summary, || {
                format!(
                    "{file}: {keys} keys at version {}, {} bytes, through entry {through}",
                    header.version,
                    bytes.get()
                )
            })?;
        }
        Err(Failure { kind: Kind::Interrupted { .. }, .. }) if output.is_json() && !to_stdout => {
            let summary = json!({ "event": "summary", "file": file, "bytes": bytes.get(), "interrupted": true });
            output.line(&summary.to_string())?;
        }
        Err(_) => {}
    }
    ended.map(drop)
}

/// What a backup was of.
struct Summary {
    header: Header,
    keys: u64,
    /// The last entry that is in it, and the last that the node has.
    through: u64,
    last: u64,
}

/// Writes a backup, and counts its bytes as they come.
async fn write(
    cluster: &Cluster,
    out: &Path,
    stale: bool,
    bytes: &Cell<u64>,
    output: &Output,
) -> Result<Summary, Failure> {
    let mut target = BackupTarget::open(out, output)?;
    let stream = open(cluster, stale).await?;
    let summary = copy(stream, bytes, |part| target.write(part)).await?;
    target.finish()?;
    Ok(summary)
}

/// The backup of the first node that has one.
async fn open(cluster: &Cluster, stale: bool) -> Result<Stream, Failure> {
    let mut last = None;
    let consistency = if stale { "&consistency=stale" } else { "" };
    let path = format!("/snapshot?timeout={}ms{consistency}", cluster.timeout.as_millis().max(1));
    for node in &cluster.nodes {
        let stream = match Client::connect(node, SERVER).await {
            Ok(client) => client.open(&path, &[], cluster.timeout * 2).await,
            Err(error) => Err(error),
        };
        match stream {
            Ok(stream) if stream.status.is_success() => return Ok(stream),
            Ok(stream) => {
                let answer = stream.whole(cluster.timeout).await.map_err(|error| failure(&error, false))?;
                last = Some(expect_ok(&answer, "the backup").expect_err("its status is not good"));
            }
            Err(error @ (ClientError::Connect { .. } | ClientError::Lost { .. } | ClientError::TimedOut { .. })) => {
                last = last.or(Some(failure(&error, false)));
            }
            Err(error @ ClientError::Protocol { .. }) => return Err(failure(&error, false)),
        }
    }
    Err(last.expect("there is a node to ask"))
}

/// Copies a backup, and looks at every byte of it on the way.
async fn copy(
    mut stream: Stream,
    bytes: &Cell<u64>,
    mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Summary, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::new(Kind::Peer, format!("the backup broke off: {error}"));
    let index = |name| stream.headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or_default();
    let (through, last) = (index(THROUGH), index(LAST));
    let (mut checker, mut header) = (Checker::default(), None);
    while let Some(part) = stream.next(CLIENT_STALL).await.map_err(|error| broken(&error))? {
        write(&part)?;
        bytes.set(bytes.get() + part.len() as u64);
        header = checker.push(&part, |_, _| {}).map_err(|error| broken(&error))?.or(header);
    }
    let keys = checker.finish().map_err(|error| broken(&error))?;
    Ok(Summary { header: header.expect("a whole backup has a header"), keys, through, last })
}

/// What is wrong with a backup.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    File(#[from] backup::BackupError),
    #[error("{0}")]
    Content(#[from] snapshot::SnapshotError),
}

/// Reads a backup as it comes, checksums, order and limits included.
#[derive(Debug, Default)]
struct Checker {
    file: backup::Reader,
    content: snapshot::Reader,
}

impl Checker {
    /// Takes more bytes, and hands on each key that is whole. Returns the header, when it was among them.
    fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Bytes, Versioned)) -> Result<Option<Header>, Broken> {
        self.file.push(bytes);
        let mut found = None;
        while let Some(part) = self.file.next_part()? {
            match part {
                Part::Header(header) => found = Some(header),
                Part::Chunk(chunk) => self.content.read(chunk, &mut take)?,
                Part::End => {}
            }
        }
        Ok(found)
    }

    /// How many keys there were, if that was all.
    fn finish(&self) -> Result<u64, Broken> {
        self.file.finish()?;
        Ok(self.content.finish()?)
    }
}

/// A backup that can be read as often as it takes.
#[derive(Debug)]
pub(super) struct Backup {
    name: String,
    file: File,
}

impl Backup {
    /// Opens a file; `-` is stdin. What can be read only once, such as a pipe, is kept in a file without a name first.
    pub(super) async fn open(path: &Path) -> Result<Self, Failure> {
        let stdin = io::stdin();
        if path.as_os_str() == "-" {
            if stdin.is_terminal() {
                let message = "a backup does not come from a terminal: name a file, or pipe one into this command";
                return Err(Failure::usage(message));
            }
            return Self::keep("stdin".to_owned(), stdin).await;
        }
        let name = path.display().to_string();
        let failed = |error: io::Error| Failure::local(format!("cannot read the backup {name}: {error}"));
        let file = File::open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        match (kind.is_file(), kind.is_fifo()) {
            (true, _) => Ok(Self { name, file }),
            (_, true) => Self::keep(name, file).await,
            (false, false) => Err(Failure::usage(format!("{name} is neither a file nor a pipe"))),
        }
    }

    async fn keep(name: String, mut from: impl Read + Send + 'static) -> Result<Self, Failure> {
        tracing::debug!("reading the backup from {name}");
        // Beside the runtime, whose thread hears the signals.
        let kept = threads::blocking("backup", move || {
            let mut file = tempfile::tempfile()?;
            io::copy(&mut from, &mut file).map(|_| file)
        });
        let dir = std::env::temp_dir();
        let kept = kept.await.map_err(|error| {
            let place = dir.display();
            Failure::local(format!(
                "cannot keep the backup from {name} in {place}: {error} (TMPDIR names another place)"
            ))
        });
        Ok(Self { file: kept?, name })
    }

    /// How many keys it has, once it was read to its end and found good.
    pub(super) fn verify(&self) -> Result<u64, Failure> {
        let mut items = self.items()?;
        while items.next()?.is_some() {}
        items.checker.finish().map_err(|error| items.broken(&error))
    }

    /// Its keys, from the first. One such reader at a time.
    pub(super) fn items(&self) -> Result<Items<'_>, Failure> {
        let rewound = (&self.file).rewind();
        rewound.map_err(|error| Failure::local(format!("cannot read {}: {error}", self.name)))?;
        Ok(Items { backup: self, checker: Checker::default(), ready: VecDeque::new() })
    }
}

/// The keys of a backup, in order.
#[derive(Debug)]
pub(super) struct Items<'a> {
    backup: &'a Backup,
    checker: Checker,
    ready: VecDeque<(Bytes, Versioned)>,
}

impl Items<'_> {
    /// The next key with its value; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Versioned)>, Failure> {
        let mut buffer = [0; 64 << 10];
        while self.ready.is_empty() {
            let count = (&self.backup.file).read(&mut buffer);
            let count = count.map_err(|e| Failure::local(format!("cannot read {}: {e}", self.backup.name)))?;
            if count == 0 {
                self.checker.finish().map_err(|error| self.broken(&error))?;
                return Ok(None);
            }
            let read = self.checker.push(&buffer[..count], |key, versioned| self.ready.push_back((key, versioned)));
            read.map_err(|error| self.broken(&error))?;
        }
        Ok(self.ready.pop_front())
    }

    fn broken(&self, error: &Broken) -> Failure {
        Failure::new(Kind::No, format!("{} is no good backup: {error}; nothing was restored from it", self.backup.name))
    }
}
