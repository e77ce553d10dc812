//! `raft-node`: one member of a Raft key-value cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool, args, origin, ready, signals};
use crate::defaults::{GATHER, MIN_SNAPSHOT_EVERY, NOTE_COMMIT};
use crate::http::api::{Api, Halted, Waiters};
use crate::http::members::Members;
use crate::http::server;
use crate::http::status::NodeInfo;
use crate::http::upgrade::Dialler;
use crate::kv::raft_kv::Event;
use crate::net::disk::{self, Reserve};
use crate::net::driver::Driver;
use crate::net::identity::data_dir::{Claim, DataDir};
use crate::net::identity::known_peers::{MemberAddr, RandomId};
use crate::net::links::Links;
use crate::net::node;
use crate::net::place::Place;
use crate::net::writer::{DiskMetrics, RecordKind, Writer};
use crate::node_id::NodeId;
use crate::raft::{Config, Configuration, Member, Record};
use crate::tools::node::{entropy, open_data_dir};

mod addresses;
mod dump;
mod force_new_cluster;
mod full_disk;
mod invocation;
mod membership;
mod recovery;

use addresses::Peer;
use force_new_cluster::Survivor;
pub use invocation::Invocation;

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
    id: NodeId,
    /// Where to serve clients and peers; port 0 takes a free one [default: 127.0.0.1:7001; with PORT in the environment that
    /// port of 127.0.0.1, and with --insecure of every address]
    #[arg(long, env = "LISTEN", value_name = "HOST:PORT", value_parser = args::node_address)]
    listen: Option<String>,
    /// The port, without --listen
    #[arg(long, env = "PORT", hide = true, value_parser = args::port)]
    port: Option<u16>,
    /// Another member of a cluster that begins now, once for each; later on, where that member is. A bare HOST:PORT takes its
    /// host as the name. Naming this node itself says where the others reach it, if it listens on every address
    #[arg(
        long = "peer",
        env = "PEER_IDS",
        value_name = "ID=HOST:PORT",
        value_delimiter = ',',
        value_parser = addresses::peer
    )]
    peers: Vec<Option<Peer>>,
    /// Join the cluster of the node at that address, unless this node belongs to one already. The ready line comes as soon as
    /// the port answers; another one, or the event joined, when this node is a member
    #[arg(long, env = "JOIN", value_name = "HOST:PORT", value_parser = args::node_address)]
    join: Option<String>,
    /// Where the others reach this node [default: the address it listens on; if that is every address, the one from which it
    /// reaches them]
    #[arg(long, env = "ADVERTISE", value_name = "HOST:PORT", value_parser = args::node_address)]
    advertise: Option<String>,
    /// Where the log is kept [default: ID.raft]
    #[arg(long, env = "DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The data directory was moved from another disk or machine, and is the only one left with its past
    #[arg(long)]
    moved: bool,
    /// None of the peers has ever had data: begin without those that are not there to say so themselves. With data on one of
    /// them, writes that were acknowledged would be lost. For one start; a node that has begun does not heed it
    #[arg(long, conflicts_with = "join")]
    peers_have_no_data: bool,
    /// Make the data directory that of a new cluster of this node alone, say what may be lost, and end: for the day on which the
    /// majority of the old cluster is gone for good. What was there is kept. The others then join with empty directories
    #[arg(long, conflicts_with = "join")]
    force_new_cluster: bool,
    /// How often a leader lets the others hear from it
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = args::duration)]
    heartbeat: Duration,
    /// How long a node waits for a leader before it seeks election, drawn from this range
    #[arg(long, value_name = "MIN..MAX", default_value = "150ms..300ms", value_parser = args::duration_range)]
    election_timeout: RangeInclusive<Duration>,
    /// Write a snapshot and shorten the log whenever so many bytes have been written [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = snapshot_every)]
    snapshot_every: Option<u64>,
    /// While requests come thick and fast, look for the next one this long before sleeping; 0s never does
    #[arg(long, value_name = "DURATION", default_value = "200us", value_parser = humantime::parse_duration)]
    busy_poll: Duration,
    /// Serve addresses other than loopback although nothing is encrypted and nobody has to prove who they are
    #[arg(long, env = "INSECURE", value_parser = args::switch)]
    insecure: bool,
    /// Let POST /cut {"peers":["n4"]} (raft-ctl cut n4) make this node ignore peers, to show what a partition does; on
    /// loopback only
    #[arg(long)]
    cut: bool,
    /// Write the ready line to this file, too, as JSON, in one piece
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// A size that leaves time for something else than snapshots.
fn snapshot_every(text: &str) -> Result<u64, String> {
    let size = args::size(text)? as u64;
    if size >= MIN_SNAPSHOT_EVERY { Ok(size) } else { Err(format!("at least {MIN_SNAPSHOT_EVERY} bytes")) }
}

impl Tool for Args {
    const NAME: &'static str = "raft-node";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        let stop = signals::stop_token()?;
        self.check()?;
        if self.force_new_cluster {
            return force_new_cluster::run(self.survivor(), output).await;
        }
        ready::forget(self.ready_file.as_deref());
        let listener = self.bind().await?;
        let addr = listener.local_addr().map_err(|error| Failure::local(format!("cannot serve: {error}")))?;
        let place = self.place(addr).await;
        let advertised = match &place {
            Place::Said(at) => Some(at.clone()),
            Place::Listening(addr) => (!addr.ip().is_unspecified()).then(|| addr.to_string()),
        };
        let data_dir = self.data_dir();
        let is_new = std::fs::read_dir(&data_dir).map_or(true, |mut entries| entries.next().is_none());
        if is_new {
            self.check_join(addr, &place).await?; // otherwise it has joined, and need not again
        }
        let claim = Claim {
            tool: Self::NAME,
            id: self.id.as_str(),
            incarnation: RandomId(entropy()?),
            members: &self.first_members(advertised.as_deref()),
            moved: self.moved,
        };
        let mut data_dir = open_data_dir(&data_dir, &claim)?;
        let (mut log, machine, known) = self.recover(&mut data_dir, advertised.as_deref())?;
        let (configuration, known) = (machine.raft().configuration().clone(), Arc::new(known));

        let disk_metrics = DiskMetrics::default();
        let reserve = Reserve::default();
        reserve.is_for(machine.state().snapshot_bytes());
        log.keep(reserve.clone());
        let kind = RecordKind {
            entries: Record::entries,
            begins: |record| matches!(record, Record::SnapshotBegin(_)),
            completes: |record| matches!(record, Record::SnapshotEnd),
        };
        known.watch(disk_metrics.clone());
        let writer = Writer::start(log, disk_metrics.clone(), kind);
        let writer = writer.map_err(|error| Failure::local(format!("cannot start the disk thread: {error}")))?;
        let links = Links::default();
        let given = self.others().map(|peer| (peer.id, peer.addr.clone())).collect();
        let members = Members::new(self.id, configuration, given, known, links.clone());
        let members = Arc::new(members.map_err(|error| Failure::local(error.to_string()))?);
        let (waiters, halted) = (Waiters::default(), Halted::default());
        let on_event = {
            let (waiters, output, members) = (waiters.clone(), output.clone(), members.clone());
            move |event| {
                report_role(&output, &event);
                match &event {
                    Event::MembersChanged(configuration) => membership::changed(&members, configuration),
                    Event::Answered { .. }
                    | Event::Changed { .. }
                    | Event::SnapshotRefused { .. }
                    | Event::RoleChanged { .. } => {}
                }
                waiters.on_event(event);
            }
        };
        let (driver, handle) = Driver::new(machine, entropy()?, self.busy_poll, writer, links, on_event);

        let info = NodeInfo {
            id: self.id,
            names: self.names(advertised.as_deref()),
            addr: advertised.unwrap_or_else(|| addresses::likely(addr).to_string()),
            members: members.clone(),
            may_cut: self.cut,
            disk: disk_metrics.clone(),
            stale_reads: Default::default(),
            reserve: reserve.clone(),
        };
        tokio::spawn(addresses::look_out(place.clone(), self.others().map(|peer| peer.addr.clone()).collect()));
        let dialler = Dialler { id: self.id, place, members };
        tokio::spawn(membership::begin(handle.clone(), dialler.members.clone()));
        tokio::spawn(membership::learn_cluster(handle.clone(), dialler.members.clone()));
        tokio::spawn(membership::follow(dialler.clone()));
        let api = Api::new(handle.clone(), info, waiters.clone(), first_request()?, halted.clone());
        tokio::spawn(full_disk::compact(reserve, handle.clone(), api.clone()));
        let server = tokio::spawn(server::serve(listener, api.clone(), stop.clone()));

        ready::announce(output, Self::NAME, Some(self.id.as_str()), addr, self.ready_file.as_deref())?;
        if let Some(at) = self.join {
            tokio::spawn(membership::join(at, handle, dialler, output.clone()));
        }

        let (watching, handover) = (waiters.clone(), *self.election_timeout.end());
        let farewell = async move {
            ready::stopping();
            watching.dismiss_watchers();
            api.hand_over(handover).await;
            if let Some(why) = disk_metrics.stands_still() {
                tracing::warn!("{why}: what waits for it is not waited for");
                watching.give_up();
            }
        };
        let halt = |error: &disk::Error| {
            tracing::error!("{error}; refusing all requests until then"); // another node takes over
            drop(halted.set(error.to_string()));
            waiters.give_up();
        };
        let ended = node::run(driver, server, stop, farewell, halt).await;
        ended.map_err(|error| Failure::local(error.to_string()))
    }
}

impl Args {
    fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.raft", self.id)))
    }

    /// This node, if it is to go on alone.
    fn survivor(&self) -> Survivor {
        let is_reachable =
            |addr: &&String| addr.parse().is_ok_and(|at: SocketAddr| at.port() != 0 && !at.ip().is_unspecified());
        let addr = self.advertise.clone().or_else(|| self.listen.as_ref().filter(is_reachable).cloned());
        let given = self.others().map(|peer| (peer.id, peer.addr.clone())).collect();
        Survivor { id: self.id, dir: self.data_dir(), addr, given }
    }

    /// The other members.
    fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten().filter(|peer| peer.id != self.id)
    }

    /// The names by which it may be called: where it listens, where the others reach it, and its own.
    fn names(&self, advertised: Option<&str>) -> Vec<String> {
        let addrs = self.listen.as_deref().into_iter().chain(advertised);
        let hosts = addrs.filter_map(|addr| addr.rsplit_once(':').map(|(host, _)| host.to_owned()));
        let names = hosts.filter(|host| !host.starts_with('[') && host.parse::<IpAddr>().is_err());
        names.chain([self.id.to_string()]).collect()
    }

    /// Whether it is said with whom a cluster begins, or which one is joined.
    fn names_members(&self) -> bool {
        self.join.is_some() || self.others().next().is_some()
    }

    /// The members of a cluster that begins now; none, when this node joins one.
    fn first_members(&self, advertised: Option<&str>) -> BTreeMap<String, String> {
        if self.join.is_some() {
            return BTreeMap::new();
        }
        let others = self.others().map(|peer| (peer.id.to_string(), peer.addr.clone()));
        others.chain([(self.id.to_string(), advertised.unwrap_or_default().to_owned())]).collect()
    }

    /// Who is named with `--peer` is a member, unless the members have changed since: a cluster that was begun without one of
    /// its nodes, by mistake, is another cluster.
    fn check_members(&self, data_dir: &DataDir, configuration: &Configuration) -> Result<(), Failure> {
        for Peer { id, addr: given, .. } in self.others() {
            let seat = configuration.members().get(id).map(|member| MemberAddr::of(&member.addr).addr);
            if let Some(seat) = seat.filter(|seat| !seat.is_empty() && seat != given) {
                tracing::warn!(
                    "{} says that {id} is at {given}, and the cluster that it is at {seat}: trying {given}",
                    peers_come_from()
                );
            }
        }
        let strangers = self.others().map(|peer| peer.id).filter(|id| !configuration.contains(*id));
        let strangers: Vec<_> = strangers.map(|id| id.to_string()).collect();
        if strangers.is_empty() || configuration.members().is_empty() {
            return Ok(());
        }
        let names: Vec<_> = configuration.members().keys().map(NodeId::as_str).collect();
        let (strangers, members) = (strangers.join(", "), names.join(", "));
        let first: Vec<_> = data_dir.first_members().keys().map(String::as_str).collect();
        if names != first {
            tracing::warn!("{} names {strangers}; the members of this cluster are {members}", peers_come_from());
            return Ok(());
        }
        Err(Failure::local(format!(
            "{} belongs to a cluster of {members}, and {} names {strangers}: leave that out, and let a new node join \
             (raft-node --id {strangers} --join HOST:PORT); or choose another --data-dir",
            data_dir.path().display(),
            peers_come_from(),
        )))
    }

    fn config(&self, data_dir: &DataDir, advertised: Option<&str>) -> Result<Config, Failure> {
        let given: BTreeMap<_, _> = self.others().map(|peer| (peer.id.as_str(), peer.addr.as_str())).collect();
        let mut initial = Vec::new();
        for (id, first_addr) in data_dir.first_members() {
            let addr = match given.get(id.as_str()) {
                Some(addr) => addr,
                None if id == self.id.as_str() => advertised.unwrap_or_default(),
                None => first_addr,
            };
            let damaged = |error: crate::node_id::InvalidNodeId| {
                Failure::local(format!("the members in {} are damaged: {error}", data_dir.path().display()))
            };
            initial.push((id.parse().map_err(damaged)?, Member { voter: true, addr: addr.to_owned() }));
        }
        Ok(Config { life: entropy()?, initial: initial.into_iter().collect(), ..self.timing() })
    }

    fn timing(&self) -> Config {
        Config {
            heartbeat: self.heartbeat,
            election_timeout: self.election_timeout.clone(),
            gather: GATHER,
            note_commit: NOTE_COMMIT,
            ..Config::new(self.id, 0, [])
        }
    }

    /// Refuses what cannot work before anything is touched.
    fn check(&self) -> Result<(), Failure> {
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
fn peers_come_from() -> &'static str {
    origin::name("--peer", "PEER_IDS")
}

/// For programs: who leads, as it changes. People read it in the log.
fn report_role(output: &Output, event: &Event) {
    if let (true, Event::RoleChanged { role, term, leader }) = (output.is_json(), event) {
        let leader = leader.map(|leader| leader.as_str().to_owned());
        let event = serde_json::json!({ "event": "role", "state": role.as_str(), "term": term.0, "leader": leader });
        let _ = output.line(&event.to_string()); // a server does not stop because nobody listens
    }
}

/// Request numbers of one life are larger than those of earlier lives: they begin at the wall clock's nanoseconds, and no
/// node takes a request a nanosecond. A clock that was set back costs at most a forwarded write its answer.
fn first_request() -> Result<u64, Failure> {
    #[expect(clippy::disallowed_methods, reason = "names requests; nothing is decided by it")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.map_or(0, |since| since.as_nanos() as u64))
}
