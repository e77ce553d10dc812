//! The command line of a node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::peer::{self, Peer};
use crate::cli::{Common, Failure, args, origin};
use crate::defaults::{BATCH_DELAY, MIN_SNAPSHOT_EVERY, NOTE_COMMIT};
use crate::node_id::NodeId;
use crate::raft::Config;

/// Run one node of a durable, linearizable key-value cluster (Raft)
///
/// Clients speak HTTP to any node: POST /kv, GET /kv/KEY, DELETE /kv/KEY, GET /kv?prefix=, GET /watch, GET /members, GET /status,
/// /health, /metrics. Peers use the same port. Without --peer and --join the node is a cluster of its own.
#[derive(Debug, Parser)]
#[command(
    name = "raft-node",
    version,
    after_help = "Examples:\n  \
        raft-node --id n1\n  \
        raft-node --id n1 --listen 127.0.0.1:7001 --peer n2=127.0.0.1:7002 --peer n3=127.0.0.1:7003\n  \
        raft-node --id n4 --listen 127.0.0.1:7004 --join 127.0.0.1:7001\n  \
        NODE_ID=n1 PORT=7001 PEER_IDS=n2=127.0.0.1:7002,n3=127.0.0.1:7003 raft-node\n  \
        NODE_ID=node1 PORT=3000 PEER_IDS=node2:3000,node3:3000 INSECURE=1 raft-node     in a container\n  \
        curl -d '{\"key\":\"a\",\"value\":\"1\"}' 127.0.0.1:7001/kv\n\n\
        Exit codes: 0 stopped by a signal, 2 usage, 6 trouble with port, data directory or disk"
)]
pub struct Args {
    /// This node's name, the same at every start
    #[arg(long, env = "NODE_ID")]
    pub(super) id: NodeId,
    /// Where to serve clients and peers; port 0 takes a free one [default: 127.0.0.1:7001; with PORT in the environment that
    /// port of 127.0.0.1, and with --insecure of every address]
    #[arg(long, env = "LISTEN", value_name = "HOST:PORT", value_parser = args::node_address)]
    pub(super) listen: Option<String>,
    /// The port, without --listen
    #[arg(long, env = "PORT", hide = true, value_parser = args::port)]
    pub(super) port: Option<u16>,
    /// Another member of a cluster that begins now, once for each; later on, where that member is. A bare HOST:PORT takes its
    /// host as the name. Naming this node itself says where the others reach it, if it listens on every address
    #[arg(
        long = "peer",
        env = "PEER_IDS",
        value_name = "ID=HOST:PORT",
        value_delimiter = ',',
        value_parser = peer::parse
    )]
    pub(super) peers: Vec<Option<Peer>>,
    /// Join the cluster of the node at that address, unless this node belongs to one already. The ready line comes as soon as
    /// the port answers; another one, or the event joined, when this node is a member
    #[arg(long, env = "JOIN", value_name = "HOST:PORT", value_parser = args::node_address)]
    pub(super) join: Option<String>,
    /// Where the others reach this node [default: the address it listens on; if that is every address, the one from which it
    /// reaches them]
    #[arg(long, env = "ADVERTISE", value_name = "HOST:PORT", value_parser = args::node_address)]
    pub(super) advertise: Option<String>,
    /// Where the log is kept [default: ID.raft]
    #[arg(long, env = "DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// The data directory was moved from another disk or machine, and is the only one left with its past
    #[arg(long)]
    pub(super) moved: bool,
    /// None of the peers has ever had data: begin without those that are not there to say so themselves. With data on one of
    /// them, writes that were acknowledged would be lost. For one start; a node that has begun does not heed it
    #[arg(long, conflicts_with = "join")]
    pub(super) peers_have_no_data: bool,
    /// Make the data directory that of a new cluster of this node alone, say what may be lost, and end: for the day on which the
    /// majority of the old cluster is gone for good. What was there is kept. The others then join with empty directories
    #[arg(long, conflicts_with = "join")]
    pub(super) force_new_cluster: bool,
    /// How often a leader lets the others hear from it
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = args::duration)]
    pub(super) heartbeat: Duration,
    /// How long a node waits for a leader before it seeks election, drawn from this range
    #[arg(long, value_name = "MIN..MAX", default_value = "150ms..300ms", value_parser = args::duration_range)]
    pub(super) election_timeout: RangeInclusive<Duration>,
    /// Write a snapshot and shorten the log whenever so many bytes have been written [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = snapshot_every)]
    pub(super) snapshot_every: Option<u64>,
    /// While requests come thick and fast, look for the next one this long before sleeping; 0s never does
    #[arg(long, value_name = "DURATION", default_value = "200us", value_parser = humantime::parse_duration)]
    pub(super) busy_poll: Duration,
    /// Serve addresses other than loopback although nothing is encrypted and nobody has to prove who they are
    #[arg(long, env = "INSECURE", value_parser = args::switch)]
    pub(super) insecure: bool,
    /// Let POST /cut {"peers":["n4"]} (raft-ctl cut n4) make this node ignore peers, to show what a partition does; on
    /// loopback only
    #[arg(long)]
    pub(super) cut: bool,
    /// Write the ready line to this file, too, as JSON, in one piece
    #[arg(long, value_name = "FILE")]
    pub(super) ready_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A size that leaves time for something else than snapshots.
fn snapshot_every(text: &str) -> Result<u64, String> {
    let size = args::size(text)? as u64;
    if size >= MIN_SNAPSHOT_EVERY { Ok(size) } else { Err(format!("at least {MIN_SNAPSHOT_EVERY} bytes")) }
}

impl Args {
    pub(super) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.raft", self.id)))
    }

    /// The other members.
    pub(super) fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten().filter(|peer| peer.id != self.id)
    }

    /// The names by which it may be called: where it listens, where the others reach it, and its own.
    pub(super) fn names(&self, advertised: Option<&str>) -> Vec<String> {
        let addrs = self.listen.as_deref().into_iter().chain(advertised);
        let hosts = addrs.filter_map(|addr| addr.rsplit_once(':').map(|(host, _)| host.to_owned()));
        let names = hosts.filter(|host| !host.starts_with('[') && host.parse::<IpAddr>().is_err());
        names.chain([self.id.to_string()]).collect()
    }

    /// Whether it is said with whom a cluster begins, or which one is joined.
    pub(super) fn names_members(&self) -> bool {
        self.join.is_some() || self.others().next().is_some()
    }

    /// The members of a cluster that begins now; none, when this node joins one.
    pub(super) fn first_members(&self, advertised: Option<&str>) -> BTreeMap<String, String> {
        if self.join.is_some() {
            return BTreeMap::new();
        }
        let others = self.others().map(|peer| (peer.id.to_string(), peer.addr.clone()));
        others.chain([(self.id.to_string(), advertised.unwrap_or_default().to_owned())]).collect()
    }

    pub(super) fn timing(&self) -> Config {
        Config {
            heartbeat: self.heartbeat,
            election_timeout: self.election_timeout.clone(),
            batch_delay: BATCH_DELAY,
            note_commit: NOTE_COMMIT,
            ..Config::new(self.id, 0, [])
        }
    }

    /// Refuses what cannot work before anything is touched.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mut peers = BTreeMap::new();
        for Peer { id, addr, .. } in self.others() {
            if let Some(other) = peers.insert(*id, addr) {
                return Err(Failure::usage(format!(
                    "{} names {id} twice, at {other} and {addr}: each node needs its own name",
                    peers_come_from()
                )));
            }
        }
        self.timing().validate().map_err(|error| Failure::usage(error.to_string()))
    }
}

/// What names the peers.
pub(super) fn peers_come_from() -> &'static str {
    origin::name("--peer", "PEER_IDS")
}
