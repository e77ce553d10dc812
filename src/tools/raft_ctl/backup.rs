//! `raft-ctl snapshot`, and how a backup is read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use hyper::Method;
use hyper::body::Bytes;
use serde_json::json;

use super::{Ask, Cluster, expect_ok, failure};
use crate::cli::{Failure, Kind, Output};
use crate::defaults::CLIENT_STALL;
use crate::http::client::{Client, ClientError, Stream};
use crate::kv::command::Versioned;
use crate::kv::snapshot;
use crate::wire::backup::{self, Header, Part};

/// What to do with a snapshot.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    /// Back the cluster up into this file, or to stdout for - [default: the node writes a snapshot into its own log, and
    /// forgets what it replaces]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Backs up, or has a node write a snapshot of its own.
pub(super) async fn run(cluster: &Cluster, options: &Options, output: &Output) -> Result<(), Failure> {
    let Some(out) = &options.out else {
        let path = "/snapshot".to_owned();
        let ask = Ask { method: Method::POST, path, body: Bytes::new(), name: None, if_version: None };
        let answer = expect_ok(&cluster.ask(ask).await?, "the snapshot")?;
        return output.result(&answer, || format!("ok, through entry {}", answer["snapshotIndex"]));
    };
    let to_stdout = out.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::usage("a backup is no text for a terminal: name a file with --out, or pipe it"));
    }
    let stream = open(cluster).await?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::local(format!("cannot write the backup to {}: {error}", out.display()))
    };
    let is_special = out.metadata().is_ok_and(|metadata| !metadata.is_file());
    let summary = if to_stdout {
        copy(stream, |bytes| output.bytes(bytes)).await?
    } else if is_special {
        let mut file = File::options().write(true).open(out).map_err(|error| failed(&error))?;
        copy(stream, |bytes| file.write_all(bytes).map_err(|error| failed(&error))).await?
    } else {
        // Whole and durable under its name, or not there at all.
        let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|error| failed(&error))?;
        let summary = copy(stream, |bytes| file.write_all(bytes).map_err(|error| failed(&error))).await?;
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        file.persist(out).map_err(|error| failed(&error))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(&error))?;
        summary
    };
    let Summary { header, keys, bytes } = summary;
    if to_stdout {
        tracing::info!("{keys} keys at version {}, {bytes} bytes", header.version);
        return Ok(());
    }
    let cluster = header.cluster.map(|cluster| format!("{cluster:016x}"));
    let json = json!({
        "file": out.display().to_string(), "keys": keys, "version": header.version, "bytes": bytes, "cluster": cluster
    });
    output.result(&json, || format!("{}: {keys} keys at version {}, {bytes} bytes", out.display(), header.version))
}

struct Summary {
    header: Header,
    keys: u64,
    bytes: u64,
}

/// The backup of the first node that has one.
async fn open(cluster: &Cluster) -> Result<Stream, Failure> {
    let mut last = None;
    let path = format!("/snapshot?timeout={}ms", cluster.timeout.as_millis().max(1));
    for node in &cluster.nodes {
        let stream = match Client::connect(node).await {
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
async fn copy(mut stream: Stream, mut write: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<Summary, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::new(Kind::Peer, format!("the backup broke off: {error}"));
    let (mut checker, mut header, mut bytes) = (Checker::default(), None, 0);
    while let Some(part) = stream.next(CLIENT_STALL).await.map_err(|error| broken(&error))? {
        bytes += part.len() as u64;
        write(&part)?;
        header = checker.push(&part, |_, _| {}).map_err(|error| broken(&error))?.or(header);
    }
    let keys = checker.finish().map_err(|error| broken(&error))?;
    let header = header.expect("a whole backup has a header");
    Ok(Summary { header, keys, bytes })
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

/// The keys of a backup file, in order.
#[derive(Debug)]
pub(super) struct Items {
    path: PathBuf,
    file: File,
    checker: Checker,
    ready: VecDeque<(Bytes, Versioned)>,
}

impl Items {
    /// Opens a backup.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::local(format!("cannot read the backup {}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            let message = format!("{} is no regular file: a backup is read twice, first to verify it", path.display());
            return Err(Failure::usage(message));
        }
        Ok(Self { path: path.to_owned(), file, checker: Checker::default(), ready: VecDeque::new() })
    }

    /// Reads all that is left, and tells how many keys the backup has.
    pub(super) fn verify(mut self) -> Result<u64, Failure> {
        while self.next()?.is_some() {}
        self.checker.finish().map_err(|error| self.broken(&error))
    }

    /// The next key with its value; None at the end.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Versioned)>, Failure> {
        let mut buffer = [0; 64 << 10];
        while self.ready.is_empty() {
            let count = self.file.read(&mut buffer);
            let count = count.map_err(|e| Failure::local(format!("cannot read {}: {e}", self.path.display())))?;
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
        Failure::new(
            Kind::No,
            format!("{} is no good backup: {error}; nothing was restored from it", self.path.display()),
        )
    }
}
