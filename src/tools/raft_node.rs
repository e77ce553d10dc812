//! `raft-node`: one member of a Raft key-value cluster.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::bind_failure;
use crate::cli::{Common, Failure, Output, Tool, args, ready, signals};
use crate::defaults::{DRAIN, GATHER};
use crate::http::api::{Api, Halted, Waiters};
use crate::http::status::NodeInfo;
use crate::http::{server, upgrade};
use crate::kv::RaftKv;
use crate::kv::raft_kv::Event;
use crate::net::data_dir::DataDir;
use crate::net::disk::{self, Log, Options};
use crate::net::driver::Driver;
use crate::net::link::{self, Outbox};
use crate::net::tcp;
use crate::net::writer::{DiskMetrics, Writer};
use crate::raft::{Config, NodeId, Raft, Record};
use crate::wire::Wire;

/// Run one node of a durable, linearizable key-value cluster (Raft)
///
/// Clients speak HTTP to any node: POST /kv, GET /kv/KEY, DELETE /kv/KEY, GET /kv?prefix=, GET /status, /health,
/// /metrics. Peers use the same port. Without --peer the node is a cluster of its own.
#[derive(Debug, Parser)]
#[command(
    name = "raft-node",
    version,
    after_help = "Examples:\n  \
        raft-node --id n1\n  \
        raft-node --id n1 --listen 127.0.0.1:7001 --peer n2=127.0.0.1:7002 --peer n3=127.0.0.1:7003\n  \
        NODE_ID=n1 PORT=7001 PEER_IDS=n2=127.0.0.1:7002,n3=127.0.0.1:7003 raft-node\n  \
        curl -d '{\"key\":\"a\",\"value\":\"1\"}' 127.0.0.1:7001/kv\n\n\
        Exit codes: 0 stopped by a signal, 2 usage, 6 trouble with port, data directory or disk"
)]
pub struct Args {
    /// This node's name, the same at every start
    #[arg(long, env = "NODE_ID")]
    id: NodeId,
    /// Where to serve clients and peers; port 0 takes a free one [default: 127.0.0.1:7001, or $PORT on 127.0.0.1]
    #[arg(long, value_name = "HOST:PORT", value_parser = args::address)]
    listen: Option<String>,
    /// The port on 127.0.0.1, without --listen
    #[arg(long, env = "PORT", hide = true, value_parser = port)]
    port: Option<Port>,
    /// Another member, once for each; a bare HOST:PORT takes its host as the name. Naming this node itself is harmless
    #[arg(
        long = "peer",
        env = "PEER_IDS",
        value_name = "ID=HOST:PORT",
        value_delimiter = ',',
        value_parser = peer
    )]
    peers: Vec<Peer>,
    /// Where the log is kept [default: ID.raft]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How often a leader lets the others hear from it
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = args::duration)]
    heartbeat: Duration,
    /// How long a node waits for a leader before it seeks election, drawn from this range
    #[arg(long, value_name = "MIN..MAX", default_value = "150ms..300ms", value_parser = args::duration_range)]
    election_timeout: RangeInclusive<Duration>,
    /// While requests come thick and fast, look for the next one this long before sleeping; 0s never does
    #[arg(long, value_name = "DURATION", default_value = "200us", value_parser = humantime::parse_duration)]
    busy_poll: Duration,
    /// Serve addresses other than loopback although nothing is encrypted and nobody has to prove who they are
    #[arg(long)]
    insecure: bool,
    /// Write the ready line to this file, too, as JSON, in one piece
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// A peer; nothing, where a variable is set and empty.
type Peer = Option<(NodeId, String)>;

/// A port; nothing, where the variable is set and empty.
#[derive(Clone, Copy, Debug)]
struct Port(Option<u16>);

fn port(text: &str) -> Result<Port, String> {
    match (text, text.parse()) {
        ("", _) => Ok(Port(None)),
        (_, Ok(port)) => Ok(Port(Some(port))),
        (_, Err(_)) => Err("PORT must be a number from 0 to 65535".to_owned()),
    }
}

/// `ID=HOST:PORT`, or `HOST:PORT` with the host as the name.
fn peer(text: &str) -> Result<Peer, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (id, addr) = match text.split_once('=') {
        Some((id, addr)) => (id, args::address(addr)?),
        None => {
            let addr = args::address(text)?;
            (text.rsplit_once(':').map_or(text, |(host, _)| host), addr)
        }
    };
    Ok(Some((id.parse().map_err(|error: crate::raft::InvalidNodeId| error.to_string())?, addr)))
}

impl Tool for Args {
    const NAME: &'static str = "raft-node";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        let stop = signals::stop_token()?;
        let config = self.config()?;
        if let Some(file) = &self.ready_file {
            let _ = std::fs::remove_file(file); // of an earlier life; writing the new one tells what is wrong with it
        }
        let listener = self.bind().await?;
        let addr = listener.local_addr().map_err(|error| Failure::local(format!("cannot serve: {error}")))?;

        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{}.raft", self.id)));
        let members: Vec<_> = config.initial.members().keys().map(NodeId::as_str).collect();
        let data_dir = DataDir::open(&data_dir, Self::NAME, self.id.as_str(), &members)
            .map_err(|e| Failure::local(e.to_string()))?;
        let (log, records) = open_log(&data_dir)?;
        let raft = Raft::recover(config, records).map_err(|error| Failure::usage(error.to_string()))?;

        let disk_metrics = DiskMetrics::default();
        let writer = Writer::start(log, disk_metrics.clone(), Record::entries);
        let writer = writer.map_err(|error| Failure::local(format!("cannot start the disk thread: {error}")))?;
        let links: BTreeMap<_, _> = self.others().map(|(id, _)| (*id, Arc::new(Outbox::default()))).collect();
        let waiters = Waiters::default();
        let on_event = {
            let (waiters, output) = (waiters.clone(), output.clone());
            move |event| {
                report_role(&output, &event);
                waiters.on_event(event);
            }
        };
        let machine = RaftKv::new(raft);
        let (mut driver, handle) = Driver::new(machine, entropy()?, self.busy_poll, writer, links.clone(), on_event);

        let members = self.others().cloned().chain([(self.id, addr.to_string())]).collect();
        let info = NodeInfo { id: self.id, members, links: links.clone(), disk: disk_metrics };
        let halted = Halted::default();
        let api = Api::new(handle, info, waiters.clone(), first_request()?, halted.clone());
        let server = tokio::spawn(server::serve(listener, api, stop.clone()));
        for (peer, peer_addr) in self.others() {
            tokio::spawn(keep_link(self.id, *peer, peer_addr.clone(), links[peer].clone()));
        }

        ready::announce(output, Self::NAME, Some(self.id.as_str()), addr, self.ready_file.as_deref())?;

        // The driver outlives the server, whose last requests it answers.
        let drained = CancellationToken::new();
        let drain = drained.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            if tokio::time::timeout(DRAIN, server).await.is_err() {
                tracing::warn!("some requests were not finished within {DRAIN:?}");
            }
            drain.cancel();
        });
        match driver.run(drained.clone()).await {
            Ok(()) => Ok(()),
            Err(error @ disk::Error::NoSpace { .. }) => {
                // Nothing that is not on the disk has been acknowledged, nor will it be; another node takes over.
                tracing::error!("{error}; refusing all requests until then");
                drop(halted.set(error.to_string()));
                waiters.give_up();
                driver.only_inspect(drained).await;
                Ok(())
            }
            Err(error) => Err(Failure::local(error.to_string())),
        }
    }
}

impl Args {
    /// The other members.
    fn others(&self) -> impl Iterator<Item = &(NodeId, String)> {
        self.peers.iter().flatten().filter(|(id, _)| *id != self.id)
    }

    fn config(&self) -> Result<Config, Failure> {
        let mut members = BTreeMap::from([(self.id, "")]);
        for (id, addr) in self.others() {
            if let Some(other) = members.insert(*id, addr) {
                return Err(Failure::usage(format!(
                    "--peer names {id} twice, at {other} and {addr}: each node needs its own name"
                )));
            }
        }
        let config = Config {
            heartbeat: self.heartbeat,
            gather: GATHER,
            election_timeout: self.election_timeout.clone(),
            ..Config::new(self.id, entropy()?, members.into_keys())
        };
        config.validate().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(config)
    }

    async fn bind(&self) -> Result<TcpListener, Failure> {
        let listen = match (&self.listen, self.port) {
            (Some(listen), _) => listen.clone(),
            (None, Some(Port(Some(port)))) => format!("127.0.0.1:{port}"),
            (None, Some(Port(None)) | None) => "127.0.0.1:7001".to_owned(),
        };
        let addrs = tcp::resolve_listen(&listen).await.map_err(|error| bind_failure(&error))?;
        if let Some(addr) = addrs.iter().find(|addr| !addr.ip().is_loopback())
            && !self.insecure
        {
            return Err(Failure::usage(format!(
                "{addr} can be reached from other machines, and nothing is encrypted or authenticated: listen on \
                 127.0.0.1, or pass --insecure on a network where you trust everybody (--key-file will do better; \
                 raft-node does not have it yet)"
            )));
        }
        tcp::bind(&listen, &addrs).map_err(|error| bind_failure(&error))
    }
}

/// The log and the records it holds.
fn open_log(data_dir: &DataDir) -> Result<(Log, Vec<Record>), Failure> {
    let (log, recovered) =
        Log::open(&data_dir.log(), Options::new(entropy()?)).map_err(|e| Failure::local(e.to_string()))?;
    let records = recovered.records.into_iter().enumerate().map(|(number, bytes)| {
        Record::decode(bytes).map_err(|error| {
            let dir = data_dir.log();
            Failure::local(format!(
                "record {number} of the log in {} is whole but not understood ({error}): start the newer netbelt that wrote it",
                dir.display()
            ))
        })
    });
    let records = records.collect::<Result<_, _>>()?;
    Ok((log, records))
}

async fn keep_link(from: NodeId, to: NodeId, addr: String, outbox: Arc<Outbox>) {
    let name = format!("{to} at {addr}");
    link::keep_up(&name, &outbox, || upgrade::dial(&addr, from, to)).await;
}

/// For programs: who leads, as it changes. People read it in the log.
fn report_role(output: &Output, event: &Event) {
    if let (true, Event::RoleChanged { role, term, leader }) = (output.is_json(), event) {
        let leader = leader.map(|leader| leader.as_str().to_owned());
        let event = serde_json::json!({ "event": "role", "state": role.as_str(), "term": term.0, "leader": leader });
        let _ = output.line(&event.to_string()); // a server does not stop because nobody listens
    }
}

fn entropy() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::local(format!("the system gives no random numbers: {error}")))
}

/// Request numbers of one life are larger than those of earlier lives: they begin at the wall clock's nanoseconds, and no
/// node takes a request a nanosecond. A clock that was set back costs at most a forwarded write its answer.
fn first_request() -> Result<u64, Failure> {
    #[expect(clippy::disallowed_methods, reason = "names requests; nothing is decided by it")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.map_or(0, |since| since.as_nanos() as u64))
}
