//! `raft-ctl`: asks a Raft key-value cluster.

use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use crate::cli::escape::escaped;
use crate::cli::signals::interruptible;
use crate::cli::{Common, Failure, Output, Tool, args};
use crate::defaults::{MAX_KEY_BYTES, REQUEST_TIMEOUT};

mod backup;
mod bench;
mod cluster;
mod keys;
mod members;
mod name;
mod restore;
mod status;
mod watch;

use cluster::Cluster;

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
        let cluster = &Cluster { nodes: self.nodes, timeout, given_timeout: self.timeout };
        match self.command {
            // They have a summary to print when they are interrupted.
            Command::Bench(options) => bench::run(cluster, &options, output).await,
            Command::Watch(options) => watch::run(cluster, &options, output).await,
            Command::Status(options) => status::run(cluster, &options, output).await,
            Command::Restore(options) => restore::run(cluster, &options, output).await,
            Command::Snapshot(options) => backup::run(cluster, &options, output).await,
            Command::Set { key, value, if_absent, if_version } => {
                let if_value = if_absent.then_some(Value::Null);
                interruptible(keys::set(cluster, &key, value, if_value, if_version, output)).await
            }
            Command::Cas { key, old, new } => {
                interruptible(keys::set(cluster, &key, new, Some(json!(old)), None, output)).await
            }
            Command::Get { key, stale } => interruptible(keys::get(cluster, &key, stale, output)).await,
            Command::Del { key, if_version } => interruptible(keys::delete(cluster, &key, if_version, output)).await,
            Command::List { prefix, limit, keys, stale } => {
                interruptible(keys::list(cluster, &prefix, limit, keys, stale, output)).await
            }
            Command::Leader => {
                let leader = interruptible(status::leader(cluster)).await?;
                let json = json!({ "leader": leader.id, "addr": leader.addr });
                output.result(&json, || escaped(&leader.id).into_owned())
            }
            Command::Members(options) => interruptible(members::members(cluster, options, output)).await,
            Command::Transfer { id } => interruptible(members::transfer(cluster, id, output)).await,
            Command::Cut { peers } => interruptible(members::cut(cluster, &peers, output)).await,
        }
    }
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
