//! `raft-ctl watch`: prints changes as they happen.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::cluster::{Cluster, SERVER, encoded, expect_ok, failure};
use crate::cli::closed;
use crate::cli::escape::escaped;
use crate::cli::signals::Signals;
use crate::cli::{Failure, Kind, Output};
use crate::defaults::{MAX_EVENT_LINE, RECONNECT, WATCH_SILENCE};
use crate::http::client::{Client, ClientError, Stream};
use crate::wire::sse::{LAST_EVENT_ID, Message, Parser};

/// What to watch.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    raft-ctl watch user/\n  \
    raft-ctl watch --after 42    # goes on after that version\n  \
    raft-ctl watch config/ --count 1 --quiet && systemctl reload app\n  \
    raft-ctl watch --json | jq -r 'select(.event == \"delete\") | .key'")]
pub(super) struct Options {
    /// Only keys that begin with this
    #[arg(default_value = "")]
    prefix: String,
    /// Begin with the change after this version [default: with what changes from now on]
    #[arg(long, value_name = "VERSION")]
    after: Option<u64>,
    /// Stop after so many changes
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// How far it is.
struct Watch<'a> {
    cluster: &'a Cluster,
    options: &'a Options,
    output: &'a Output,
    /// The version to go on after.
    after: Option<u64>,
    changes: u64,
}

/// Prints changes until there are enough or a signal comes, and a summary.
pub(super) async fn run(cluster: &Cluster, options: &Options, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut watch = Watch { cluster, options, output, after: options.after, changes: 0 };
    let ended = tokio::select! {
        ended = watch.follow() => ended,
        () = closed::stdout() => Err(Failure::new(Kind::ClosedPipe, "")),
        signal = signals.stop() => Err(Failure::new(Kind::Interrupted { signal }, "interrupted")),
    };
    let interrupted = matches!(&ended, Err(failure) if matches!(failure.kind, Kind::Interrupted { .. }));
    if ended.is_ok() || interrupted {
        let (changes, version) = (watch.changes, watch.after);
        if output.is_json() {
            let summary = json!({
                "event": "summary", "changes": changes, "version": version, "interrupted": interrupted
            });
            output.line(&summary.to_string())?;
        } else if let (true, Some(version)) = (interrupted, version) {
            tracing::info!("{changes} changes; --after {version} goes on from here");
        }
    }
    ended
}

impl Watch<'_> {
    /// Follows the stream of one node after another. The first must be found within the usual time-out; once there was
    /// one, another is looked for as long as it takes.
    async fn follow(&mut self) -> Result<(), Failure> {
        let (end, mut ever) = (Instant::now() + self.cluster.timeout, false);
        let mut pause = *RECONNECT.start();
        loop {
            let mut last = None;
            for node in &self.cluster.nodes {
                let error = match self.open(node).await {
                    Ok(stream) => {
                        (ever, pause) = (true, *RECONNECT.start());
                        match self.print(stream).await? {
                            Ended::Enough => return Ok(()),
                            Ended::Lost(why) => Failure::new(Kind::Unreachable, why),
                        }
                    }
                    Err(error) if matches!(error.kind, Kind::Unreachable | Kind::NoLeader | Kind::Deadline) => error,
                    Err(error) => return Err(error),
                };
                tracing::debug!("{node}: {error}");
                last = Some(error);
            }
            match last {
                Some(error) if !ever && Instant::now() >= end => return Err(error),
                Some(_) | None => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(*RECONNECT.end());
        }
    }

    async fn open(&self, node: &str) -> Result<Stream, Failure> {
        let timeout = self.cluster.timeout;
        let unreachable = |error: ClientError| failure(&error, false);
        let path = format!("/watch?prefix={}&timeout={}ms", encoded(&self.options.prefix), timeout.as_millis().max(1));
        let headers: Vec<_> = self.after.map(|after| (LAST_EVENT_ID, after.to_string())).into_iter().collect();
        let client = Client::connect(node, SERVER).await.map_err(unreachable)?;
        let stream = client.open(&path, &headers, timeout * 2).await.map_err(unreachable)?;
        if stream.status.is_success() {
            return Ok(stream);
        }
        let answer = stream.whole(timeout).await.map_err(unreachable)?;
        Err(expect_ok(&answer, &self.options.prefix).expect_err("its status is not good"))
    }

    async fn print(&mut self, mut stream: Stream) -> Result<Ended, Failure> {
        let mut parser = Parser::new(MAX_EVENT_LINE);
        loop {
            match stream.next(WATCH_SILENCE).await {
                Ok(Some(part)) => parser.push(&part),
                Ok(None) => return Ok(Ended::Lost("the stream ended".to_owned())),
                Err(error) => return Ok(Ended::Lost(error.to_string())),
            }
            let broken = |error: &dyn std::fmt::Display| {
                Failure::new(Kind::Peer, format!("the stream is not that of a raft-node: {error}"))
            };
            while let Some(message) = parser.next_message().map_err(|error| broken(&error))? {
                self.message(&message, broken)?;
                self.after = message.id.or(self.after);
                if self.options.count.is_some_and(|count| self.changes >= count) {
                    return Ok(Ended::Enough);
                }
            }
        }
    }

    fn message(
        &mut self,
        message: &Message,
        broken: impl Fn(&dyn std::fmt::Display) -> Failure,
    ) -> Result<(), Failure> {
        if message.data.is_empty() {
            return Ok(()); // an id alone
        }
        let mut data: Value = serde_json::from_str(&message.data).map_err(|error| broken(&error))?;
        let text = |name: &str| escaped(data[name].as_str().unwrap_or_default());
        let line = match message.event.as_str() {
            "set" => format!("{}\tset\t{}\t{}", data["version"], text("key"), text("value")),
            "delete" => format!("{}\tdelete\t{}", data["version"], text("key")),
            "gone" => {
                let why = text("error");
                let remedy = "start watching without --after, and then list the keys";
                return Err(Failure::new(Kind::No, format!("{why} ({remedy})")));
            }
            _ => return Ok(()), // what a newer node may tell
        };
        let Some(fields) = data.as_object_mut() else { return Err(broken(&"an event without fields")) };
        fields.shift_insert(0, "event".to_owned(), Value::from(message.event.as_str()));
        self.changes += 1;
        self.output.result(&data, || line)
    }
}

/// How a stream ended.
enum Ended {
    /// As many changes as were asked for.
    Enough,
    /// Before that, and why.
    Lost(String),
}
