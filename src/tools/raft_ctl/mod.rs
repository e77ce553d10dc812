//! `raft-ctl`: asks a Raft key-value cluster.

use std::borrow::Cow;
use std::io::{IsTerminal, Read};
use std::time::Duration;

use clap::{Parser, Subcommand};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::escape::{escaped, harmless};
use crate::cli::{Common, Failure, Kind, Output, Tool, args, signals};
use crate::defaults::{LIST_LIMIT, MAX_KEY_BYTES, MAX_LIST_LIMIT, MAX_VALUE_BYTES, REQUEST_TIMEOUT};
use crate::http::client::{Client, ClientError, Response};
use crate::http::kv::IDEMPOTENCY_KEY;

mod backup;
mod bench;
mod members;
mod name;
mod restore;
mod status;
mod watch;

/// Bytes of a value that is too large which are read to tell how large it is.
const MAX_COUNTED: u64 = 1 << 30;
use name::Name;

/// Read, write and look after a Raft key-value cluster
#[derive(Debug, Parser)]
#[command(
    name = "raft-ctl",
    version,
    propagate_version = true,
    after_help = "Examples:\n  \
        raft-ctl set colour green\n  \
        raft-ctl --nodes 127.0.0.1:7001,127.0.0.1:7002 get colour\n  \
        raft-ctl cas colour green blue\n  \
        raft-ctl list user/ --json | jq -r .key\n  \
        raft-ctl watch user/\n  \
        raft-ctl snapshot --out today.backup\n  \
        raft-ctl restore today.backup\n  \
        raft-ctl status\n  \
        raft-ctl members remove n3\n  \
        raft-ctl bench --clients 64 --reads 0 --duration 10s\n\n\
        Exit codes: 0 done, 1 the answer is no (no such key, condition failed), 2 usage,\n\
        3 no node or no leader answers, 5 refused, 124 no answer in time or outcome unknown"
)]
pub struct Args {
    /// The nodes to ask, in order, until one answers
    #[arg(
        long,
        global = true,
        env = "RAFT_NODES",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001",
        value_parser = args::node_address
    )]
    nodes: Vec<String>,
    /// How long to wait for an answer [default: 5s; status: 1s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = request_timeout)]
    timeout: Option<Duration>,
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set a key to a value
    Set {
        /// 1 to 1024 bytes
        #[arg(value_parser = key)]
        key: String,
        /// At most 1 MiB; - reads it from stdin
        #[arg(allow_negative_numbers = true)]
        value: String,
        /// Only if the key is not there yet
        #[arg(long, conflicts_with = "if_version")]
        if_absent: bool,
        /// Only if the key was last written at this version
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
    },
    /// Print a key's value; exit 1 when there is no such key
    Get {
        /// The key
        #[arg(value_parser = key)]
        key: String,
        /// Read what the asked node has, which may be out of date
        #[arg(long)]
        stale: bool,
    },
    /// Delete a key; exit 1 when there is no such key
    Del {
        /// The key
        #[arg(value_parser = key)]
        key: String,
        /// Only if the key was last written at this version
        #[arg(long, value_name = "VERSION")]
        if_version: Option<u64>,
    },
    /// Set a key to NEW if its value is OLD; exit 1 when it is not
    Cas {
        /// The key
        #[arg(value_parser = key)]
        key: String,
        /// The value it must have
        #[arg(allow_negative_numbers = true)]
        old: String,
        /// The value it shall have; - reads it from stdin
        #[arg(allow_negative_numbers = true)]
        new: String,
    },
    /// Print keys and their values, in order
    List {
        /// Only keys that begin with this
        #[arg(default_value = "")]
        prefix: String,
        /// At most so many [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Print the keys alone
        #[arg(long)]
        keys: bool,
        /// Read what the asked node has, which may be out of date
        #[arg(long)]
        stale: bool,
    },
    /// Print changes as they happen, until interrupted; exit 1 when some were missed and are not kept any more
    Watch(watch::Options),
    /// Back the cluster up into a file; without --out, have a node compact its log
    Snapshot(backup::Options),
    /// Write the keys of a backup into a cluster, which must have none without --force
    Restore(restore::Options),
    /// Print a table of all nodes; exit 3 when none answers
    Status(status::Options),
    /// Print the leader's name; exit 3 when there is none
    Leader,
    /// Print the members, or add or remove one; exit 1 when there is no such member
    Members(members::Options),
    /// Let another node lead; exit 1 when it is no member, 124 when it does not take over
    #[command(after_help = "Examples:\n  \
        raft-ctl transfer n2\n  \
        raft-ctl transfer n2 --timeout 1s && raft-ctl leader")]
    Transfer {
        /// Its name
        id: crate::node_id::NodeId,
    },
    /// Make the node that --nodes names ignore these peers, and no others; without any, it hears them all again. The node
    /// must have been started with --cut
    Cut {
        /// Their names
        #[arg(value_delimiter = ',')]
        peers: Vec<crate::node_id::NodeId>,
    },
    /// Measure writes and reads a second, their latency, and the longest pause in which nobody was answered. Leaves keys
    /// bench/0, bench/1, ... behind
    Bench(bench::Options),
}

impl Tool for Args {
    const NAME: &'static str = "raft-ctl";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        let timeout = self.timeout.unwrap_or(REQUEST_TIMEOUT);
        let cluster = Cluster { nodes: self.nodes, timeout, given_timeout: self.timeout };
        match self.command {
            // They have a summary to print when they are interrupted.
            Command::Bench(options) => bench::run(&cluster, &options, output).await,
            Command::Watch(options) => watch::run(&cluster, &options, output).await,
            Command::Status(options) => status::run(&cluster, &options, output).await,
            Command::Restore(options) => restore::run(&cluster, &options, output).await,
            Command::Snapshot(options) => backup::run(&cluster, &options, output).await,
            command => signals::interruptible(run(&cluster, command, output)).await,
        }
    }
}

async fn run(cluster: &Cluster, command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Set { key, value, if_absent, if_version } => {
            let mut body = json!({ "key": key, "value": from_argument(value)? });
            if if_absent {
                body["if_value"] = Value::Null;
            }
            written(&cluster.write(Ask::set(&body).if_version(if_version)).await?, &key, output)
        }
        Command::Cas { key, old, new } => {
            let body = json!({ "key": key, "value": from_argument(new)?, "if_value": old });
            written(&cluster.write(Ask::set(&body)).await?, &key, output)
        }
        Command::Get { key, stale } => {
            let answer = cluster.ask(Ask::get(&format!("/kv/{}", encoded(&key)), stale)).await?;
            let item = expect_ok(&answer, &key)?;
            let value = item["value"].as_str().unwrap_or_default();
            let to_person = std::io::stdout().is_terminal();
            output.result(&item, || if to_person { harmless(value).into_owned() } else { value.to_owned() })
        }
        Command::Del { key, if_version } => {
            let path = format!("/kv/{}", encoded(&key));
            let ask = Ask::write(Method::DELETE, path, Bytes::new()).if_version(if_version);
            let answer = expect_done(&cluster.write(ask).await?, &key)?;
            if answer["deleted"] == json!(true) {
                output.result(&answer, || format!("deleted {}", escaped(&key)))
            } else {
                Err(Failure::new(Kind::No, format!("key not found: {}", escaped(&key))))
            }
        }
        Command::List { prefix, limit, keys, stale } => list(cluster, &prefix, limit, keys, stale, output).await,
        Command::Leader => {
            let leader = status::leader(cluster).await?;
            let json = json!({ "leader": leader.id, "addr": leader.addr });
            output.result(&json, || escaped(&leader.id).into_owned())
        }
        Command::Members(options) => members::members(cluster, options, output).await,
        Command::Transfer { id } => members::transfer(cluster, id, output).await,
        Command::Cut { peers } => members::cut(cluster, &peers, output).await,
        Command::Bench(_) | Command::Watch(_) | Command::Status(_) | Command::Restore(_) | Command::Snapshot(_) => {
            unreachable!("it has been run already")
        }
    }
}

/// Prints the pages of a listing as they come.
async fn list(
    cluster: &Cluster,
    prefix: &str,
    limit: Option<usize>,
    keys: bool,
    stale: bool,
    output: &Output,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after = None::<String>;
    let page = if limit.is_some() { LIST_LIMIT } else { MAX_LIST_LIMIT };
    while left > 0 {
        let mut path = format!("/kv?prefix={}&limit={}", encoded(prefix), left.min(page));
        if let Some(after) = &after {
            path += &format!("&after={}", encoded(after));
        }
        let answer = expect_ok(&cluster.ask(Ask::get(&path, stale)).await?, prefix)?;
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        for item in items {
            let key = item["key"].as_str().unwrap_or_default();
            if keys {
                output.result(&json!({ "key": key, "version": item["version"] }), || escaped(key).into_owned())?;
            } else {
                output.result(item, || format!("{}\t{}", escaped(key), cell(&item["value"])))?;
            }
        }
        left -= items.len().min(left);
        match answer["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    Ok(())
}

fn written(answer: &Response, key: &str, output: &Output) -> Result<(), Failure> {
    let item = expect_done(answer, key)?;
    output.result(&item, || format!("ok, version {}", item["version"]))
}

/// The same as [`expect_ok`], of a write: a node that refuses one for want of a leader, or of room, has not begun with it.
fn expect_done(answer: &Response, key: &str) -> Result<Value, Failure> {
    expect_ok(answer, key).map_err(|failure| match failure.kind {
        Kind::NoLeader => Failure::new(failure.kind, format!("{failure}; nothing was done")),
        _ => failure,
    })
}

/// The JSON of a good answer; what went wrong, of another.
fn expect_ok(answer: &Response, key: &str) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = escaped(body["error"].as_str().unwrap_or("an answer without a reason"));
    let shown = escaped(key);
    match answer.status {
        StatusCode::OK => Ok(body),
        StatusCode::NOT_FOUND if error == "key not found" => {
            Err(Failure::new(Kind::No, format!("key not found: {}", escaped(key))))
        }
        StatusCode::PRECONDITION_FAILED => Err(Failure::new(
            Kind::No,
            match (body["value"].as_str(), body["version"].as_u64()) {
                (Some(value), Some(version)) => {
                    format!("condition failed: {shown} is '{}' at version {version}", escaped(value))
                }
                (None, Some(version)) => {
                    format!(
                        "condition failed: {shown} is at version {version}, and the node has no room to tell its value now"
                    )
                }
                _ if body["earlier"] == json!(true) => {
                    format!("condition failed: {shown} was something else when the request first came")
                }
                _ => format!("condition failed: {shown} does not exist"),
            },
        )),
        StatusCode::SERVICE_UNAVAILABLE => {
            Err(Failure::new(Kind::NoLeader, format!("{error} (raft-ctl status shows which nodes are up)")))
        }
        StatusCode::GATEWAY_TIMEOUT => Err(Failure::new(
            Kind::Deadline,
            format!("{error}: the write to {shown} may or may not take effect; read it back"),
        )),
        status => Err(Failure::new(Kind::Peer, format!("refused with {status}: {error}"))),
    }
}

/// Nodes that are all as good as each other.
#[derive(Clone, Debug)]
struct Cluster {
    nodes: Vec<String>,
    timeout: Duration,
    /// The time-out, where the command line names one.
    given_timeout: Option<Duration>,
}

/// A request.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    body: Bytes,
    /// The name of a write, under which it may be sent again.
    name: Option<String>,
    if_version: Option<u64>,
}

impl Ask {
    fn get(path: &str, stale: bool) -> Self {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = if stale { format!("{path}{separator}consistency=stale") } else { path.to_owned() };
        Self { method: Method::GET, path, body: Bytes::new(), name: None, if_version: None }
    }

    fn set(body: &Value) -> Self {
        Self::write(Method::POST, "/kv".to_owned(), Bytes::from(body.to_string()))
    }

    fn write(method: Method, path: String, body: Bytes) -> Self {
        Self { method, path, body, name: None, if_version: None }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let name = self.name.iter().map(|name| (IDEMPOTENCY_KEY, name.clone()));
        name.chain(self.if_version.map(|version| ("if-match", format!("\"{version}\"")))).collect()
    }

    /// Whether it may have done something even if nobody says so.
    fn is_change(&self) -> bool {
        self.method != Method::GET
    }

    const fn if_version(mut self, version: Option<u64>) -> Self {
        self.if_version = version;
        self
    }
}

impl Cluster {
    /// Asks under a name, so that it is done once. When a node refuses the name, it takes another one.
    async fn write(&self, mut ask: Ask) -> Result<Response, Failure> {
        let mut name = Name::lease(self).await?;
        ask.name = Some(name.next());
        let answer = self.ask(ask.clone()).await?;
        if !name::is_refused(&answer) {
            return Ok(answer);
        }
        name.renew(self).await?;
        ask.name = Some(name.next());
        self.ask(ask).await
    }

    /// The first answer that a node gives. The next node is asked when one cannot be reached or knows no leader, and
    /// when it does not tell what became of a request that has a name, under which it is carried out once.
    async fn ask(&self, ask: Ask) -> Result<Response, Failure> {
        let (mut last, mut unknown) = (None, None);
        let end = Instant::now() + self.timeout;
        for (place, node) in self.nodes.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && (last.is_some() || unknown.is_some()) {
                break;
            }
            // One that is cut off from its cluster uses up its share of the time, and not that of the others.
            let share = left / (self.nodes.len() - place) as u32;
            match self.ask_node(node, &ask, share).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => last = Some(Ok(answer)),
                Ok(answer) if answer.status == StatusCode::GATEWAY_TIMEOUT => unknown = unknown.or(Some(Ok(answer))),
                // A node before this one may have done it.
                Ok(answer) if unknown.is_some() && name::is_refused(&answer) => break,
                Ok(answer) => return Ok(answer),
                Err(error @ ClientError::Connect { .. }) => {
                    tracing::debug!("{error}");
                    last = last.or(Some(Err(error)));
                }
                Err(error @ ClientError::Protocol { .. }) if ask.is_change() => return Err(failure(&error, true)),
                Err(error) if ask.is_change() => unknown = unknown.or(Some(Err(error))),
                Err(error) => last = Some(Err(error)),
            }
        }
        if let Some(unknown) = unknown {
            return unknown.map_err(|error| failure(&error, true));
        }
        last.expect("there is a node to ask").map_err(|error| failure(&error, false))
    }

    async fn ask_node(&self, node: &str, ask: &Ask, timeout: Duration) -> Result<Response, ClientError> {
        let mut client = Client::connect(node).await?;
        // The node gives up a little earlier than this client, and can then say why.
        let separator = if ask.path.contains('?') { '&' } else { '?' };
        let path = if ["/kv", "/members", "/leader"].iter().any(|path| ask.path.starts_with(path)) {
            format!("{}{separator}timeout={}ms", ask.path, timeout.as_millis().max(1))
        } else {
            ask.path.clone()
        };
        let patience = timeout + Duration::from_millis(500);
        client.ask(ask.method.clone(), &path, ask.body.clone(), &ask.headers(), patience).await
    }
}

fn failure(error: &ClientError, is_change: bool) -> Failure {
    match error {
        ClientError::Connect { .. } => {
            Failure::new(Kind::Unreachable, format!("{error} (is raft-node running there? name others with --nodes)"))
        }
        ClientError::Lost { .. } | ClientError::TimedOut { .. } if is_change => Failure::new(
            Kind::Deadline,
            format!("{error}; the change may or may not take effect: look what came of it"),
        ),
        ClientError::Protocol { .. } if is_change => {
            Failure::new(Kind::Peer, format!("{error}; the change may or may not have taken effect"))
        }
        ClientError::TimedOut { .. } => Failure::new(Kind::Deadline, error.to_string()),
        ClientError::Lost { .. } => Failure::new(Kind::Unreachable, error.to_string()),
        ClientError::Protocol { .. } => Failure::new(Kind::Peer, error.to_string()),
    }
}

/// A value from the command line, or from stdin for `-`.
fn from_argument(value: String) -> Result<String, Failure> {
    if value != "-" {
        return Ok(value);
    }
    let (mut bytes, mut stdin) = (Vec::new(), std::io::stdin());
    let read = stdin.by_ref().take(MAX_VALUE_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("cannot read the value from stdin: {error}")))?;
    if bytes.len() > MAX_VALUE_BYTES {
        // How much it is, unless it does not end.
        let rest = std::io::copy(&mut stdin.take(MAX_COUNTED), &mut std::io::sink()).unwrap_or_default();
        let (more, size) = (if rest == MAX_COUNTED { "more than " } else { "" }, bytes.len() as u64 + rest);
        let message = format!("a value has at most {MAX_VALUE_BYTES} bytes (1 MiB), and stdin has {more}{size}");
        return Err(Failure::new(Kind::Peer, message)); // as if the node had been asked
    }
    String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!("cannot read the value from stdin: {}; values are UTF-8 text", error.utf8_error()))
    })
}

/// A text in a table, or a dash.
fn cell(value: &Value) -> Cow<'_, str> {
    escaped(value.as_str().unwrap_or("-"))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn key(text: &str) -> Result<String, String> {
    match text.len() {
        1..=MAX_KEY_BYTES => Ok(text.to_owned()),
        len => Err(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {len}")),
    }
}

fn request_timeout(text: &str) -> Result<Duration, String> {
    let most = crate::defaults::MAX_REQUEST_TIMEOUT;
    let timeout = args::duration(text)?;
    if timeout <= most { Ok(timeout) } else { Err(format!("at most {most:?}")) }
}
