//! `raft-ctl restore`: writes the keys of a backup into a cluster.
//!
//! They are ordinary writes, many at a time: the cluster serves meanwhile, and gives the keys new versions. Each is safe to
//! send again, so a connection that is lost, or a leader, only costs time; and so is the whole command.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backup::Backup;
use super::cluster::{Ask, Cluster, SERVER, encoded, expect_ok, failure, is_name_refused};
use super::name::Name;
use crate::cli::signals::Signals;
use crate::cli::{Failure, Kind, Output};
use crate::defaults::{MAX_LIST_LIMIT, RECONNECT, RESTORE_WRITERS};
use crate::http::client::{Client, ClientError, Response};

/// What to restore.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    raft-ctl restore today.backup\n  \
    raft-ctl restore today.backup --force    # the cluster becomes what the backup was\n  \
    zstd -dc today.backup.zst | raft-ctl restore -")]
pub(super) struct Options {
    /// A file that `snapshot --out` wrote; - reads it from stdin, and keeps it in $TMPDIR until it has been verified
    file: PathBuf,
    /// Restore into a cluster that has keys: those of the file are overwritten, all others deleted
    #[arg(long)]
    force: bool,
}

/// Verifies the whole file, then writes it, then deletes what is not in it.
pub(super) async fn run(cluster: &Cluster, options: &Options, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let backup = tokio::select! {
        backup = Backup::open(&options.file) => backup?,
        signal = signals.stop() => return Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
    };
    let total = backup.verify()?;
    let progress = Progress::new(total, output);
    let work = async {
        if !options.force {
            refuse_keys(cluster).await?;
        }
        write_all(cluster, &backup, &progress).await?;
        if options.force { delete_others(cluster, &backup, &progress).await } else { Ok(()) }
    };
    let ended = tokio::select! {
        ended = work => ended,
        signal = signals.stop() => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
    };
    // To finish a bar moves it to its end.
    let (keys, deleted) = (progress.bar.position(), progress.deleted.position());
    progress.bar.finish_and_clear();
    let interrupted = matches!(&ended, Err(failure) if matches!(failure.kind, Kind::Interrupted { .. }));
    if ended.is_ok() || interrupted {
        let summary = json!({
            "event": "summary", "keys": keys, "of": total, "deleted": deleted, "interrupted": interrupted
        });
        if output.is_json() || !interrupted {
            output.result(&summary, || match deleted {
                0 => format!("{keys} keys restored"),
                _ => format!("{keys} keys restored, {deleted} others deleted"),
            })?;
        }
    }
    ended.map_err(|failure| match keys {
        0 => failure,
        _ => Failure::new(
            failure.kind,
            format!(
                "{}; {keys} of {total} keys have been restored: run it again with --force, which is safe",
                failure.message
            ),
        ),
    })
}

/// How far it is; a bar on a terminal.
#[derive(Clone)]
struct Progress {
    bar: ProgressBar,
    deleted: ProgressBar,
}

impl Progress {
    fn new(total: u64, output: &Output) -> Self {
        let shown = std::io::stderr().is_terminal() && !output.is_json();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} keys, {per_sec}, {eta} left");
        let bar = ProgressBar::with_draw_target(Some(total), target);
        bar.set_style(style.expect("the template is valid").progress_chars("=> "));
        Self { bar, deleted: ProgressBar::hidden() }
    }
}

async fn refuse_keys(cluster: &Cluster) -> Result<(), Failure> {
    let page = page(cluster, None, 1).await?;
    match page["items"].as_array().and_then(|items| items.first()) {
        None => Ok(()),
        Some(item) => Err(Failure::new(
            Kind::No,
            format!(
                "the cluster has keys ({} is one): with --force, those of the backup are overwritten and all others deleted",
                item["key"]
            ),
        )),
    }
}

async fn page(cluster: &Cluster, after: Option<&str>, limit: usize) -> Result<Value, Failure> {
    let after = after.map(|after| format!("&after={}", encoded(after))).unwrap_or_default();
    let answer = cluster.ask(Ask::get(&format!("/kv?limit={limit}{after}"), false)).await?;
    expect_ok(&answer, "the listing")
}

async fn write_all(cluster: &Cluster, backup: &Backup, progress: &Progress) -> Result<(), Failure> {
    let mut items = backup.items()?;
    let mut crew = Crew::start(cluster, &progress.bar).await?;
    while let Some((key, versioned)) = items.next()? {
        let text = |bytes: &Bytes| {
            let text = std::str::from_utf8(bytes).map(str::to_owned);
            text.map_err(|_| {
                Failure::new(Kind::No, "the backup holds a key or value that is no text, which no raft-node takes")
            })
        };
        let body = json!({ "key": text(&key)?, "value": text(&versioned.value)? });
        crew.give(Write { method: Method::POST, path: "/kv".to_owned(), body: Bytes::from(body.to_string()) }).await?;
    }
    crew.finish().await
}

/// Walks through the cluster's keys and the file's side by side.
async fn delete_others(cluster: &Cluster, backup: &Backup, progress: &Progress) -> Result<(), Failure> {
    let mut items = backup.items()?;
    let mut kept = items.next()?;
    let mut crew = Crew::start(cluster, &progress.deleted).await?;
    let mut after = None::<String>;
    loop {
        let page = page(cluster, after.as_deref(), MAX_LIST_LIMIT).await?;
        for item in page["items"].as_array().into_iter().flatten() {
            let key = item["key"].as_str().unwrap_or_default();
            while kept.as_ref().is_some_and(|(kept, _)| kept.as_ref() < key.as_bytes()) {
                kept = items.next()?;
            }
            if kept.as_ref().is_none_or(|(kept, _)| *kept != key.as_bytes()) {
                let path = format!("/kv/{}", encoded(key));
                crew.give(Write { method: Method::DELETE, path, body: Bytes::new() }).await?;
            }
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return crew.finish().await,
        }
    }
}

struct Write {
    method: Method,
    path: String,
    body: Bytes,
}

/// Writers that work side by side, each with a connection of its own.
struct Crew {
    queue: mpsc::Sender<Write>,
    writers: JoinSet<Result<(), Failure>>,
}

impl Crew {
    async fn start(cluster: &Cluster, done: &ProgressBar) -> Result<Self, Failure> {
        let (queue, work) = mpsc::channel(RESTORE_WRITERS);
        let work = Arc::new(Mutex::new(work));
        let mut names = JoinSet::new();
        for _ in 0..RESTORE_WRITERS {
            let cluster = cluster.clone();
            names.spawn(async move { Name::lease(&cluster).await });
        }
        let mut writers = JoinSet::new();
        for (number, name) in names.join_all().await.into_iter().enumerate() {
            let writer = Writer { cluster: cluster.clone(), connection: None, node: number, name: name? };
            writers.spawn(writer.run(Arc::clone(&work), done.clone()));
        }
        Ok(Self { queue, writers })
    }

    /// Hands a write to whoever is free. The first writer that failed ends it all.
    async fn give(&mut self, write: Write) -> Result<(), Failure> {
        tokio::select! {
            biased;
            Some(ended) = self.writers.join_next() => {
                ended.expect("a writer does not panic").and_then(|()| Err(Failure::local("a writer ended early")))
            }
            given = self.queue.send(write) => given.map_err(|_| Failure::local("no writer is left")),
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        drop(self.queue);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer does not panic")?;
        }
        Ok(())
    }
}

struct Writer {
    cluster: Cluster,
    connection: Option<Client>,
    /// Which node it is connected to.
    node: usize,
    name: Name,
}

impl Writer {
    async fn run(mut self, work: Arc<Mutex<mpsc::Receiver<Write>>>, done: ProgressBar) -> Result<(), Failure> {
        loop {
            let next = work.lock().await.recv().await;
            let Some(write) = next else { return Ok(()) };
            self.write(&write).await?;
            done.inc(1);
        }
    }

    /// Asks one node after another, under one name, until one has an answer.
    async fn write(&mut self, write: &Write) -> Result<(), Failure> {
        let end = Instant::now() + self.cluster.timeout;
        let mut pause = *RECONNECT.start();
        // Why it may be done nevertheless: from then on no node's "nothing was done" is the whole truth.
        let mut unknown = None;
        let mut name = self.name.next();
        loop {
            let failed = match self.ask(write, &name).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                // It has no condition, so it may be done a second time.
                Ok(answer) if is_name_refused(&answer) && Instant::now() < end => {
                    self.name.renew(&self.cluster).await?;
                    name = self.name.next();
                    continue;
                }
                Ok(answer) => {
                    let failed = expect_ok(&answer, &write.path).expect_err("its status is not good");
                    if !matches!(failed.kind, Kind::NoLeader | Kind::Deadline) {
                        return Err(failed);
                    }
                    failed
                }
                Err(error) => {
                    self.connection = None;
                    self.node += 1;
                    failure(&error, true)
                }
            };
            if Instant::now() >= end {
                return Err(unknown.unwrap_or(failed));
            }
            if failed.kind == Kind::Deadline {
                unknown = unknown.or(Some(failed));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(*RECONNECT.end());
        }
    }

    async fn ask(&mut self, write: &Write, name: &str) -> Result<Response, ClientError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                none.insert(Client::connect(&self.cluster.nodes[self.node % self.cluster.nodes.len()], SERVER).await?)
            }
        };
        let headers = [(crate::http::kv::IDEMPOTENCY_KEY, name.to_owned())];
        let (method, body) = (write.method.clone(), write.body.clone());
        connection.ask(method, &write.path, body, &headers, self.cluster.timeout).await
    }
}
