//! A node from its data directory.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::body::Bytes;

use super::args::{Args, peers_come_from};
use super::peer::Peer;
use crate::cli::Failure;
use crate::defaults::SNAPSHOT_EVERY;
use crate::kv::raft_kv::{RecoverError, Recovery};
use crate::kv::{RaftKv, SessionRequest, SnapshotError};
use crate::net::disk::{self, Log, Options};
use crate::net::identity::boot_history::BootHistory;
use crate::net::identity::data_dir::{DataDir, DataDirError, Remains};
use crate::net::identity::known_peers::KnownPeers;
use crate::net::identity::random_id::{MemberAddr, RandomId};
use crate::node_id::{InvalidNodeId, NodeId};
use crate::raft::{Config, Configuration, HardState, Index, Member, Payload, Record};
use crate::tools::entropy;
use crate::tools::node::{data_dir_failure, disk_failure, newer, replay};

impl Args {
    /// The log, the machine that it makes, and whom the node has met. One that has not begun is as good as empty, and begins
    /// with the members that the command line names now, if it names any.
    pub(super) fn recover(
        &self,
        data_dir: &mut DataDir,
        advertised: Option<&str>,
    ) -> Result<(Log, RaftKv, KnownPeers), Failure> {
        let local = |error: DataDirError| data_dir_failure(&error);
        let recover = |data_dir: &DataDir| {
            let config = self.config(data_dir, advertised)?;
            recover(config, self.snapshot_every.unwrap_or(SNAPSHOT_EVERY), &data_dir.log())
        };
        let (mut log, mut machine) = recover(data_dir)?;
        let mut known = BootHistory::begin(data_dir.path(), RandomId(entropy()?))
            .and_then(|starts| KnownPeers::open(data_dir.path(), self.id.as_str(), data_dir.incarnation(), starts))
            .map_err(local)?;
        if data_dir.is_founding() && is_untouched(&machine) && !known.has_waited() {
            let members = self.first_members(advertised);
            if self.names_members() && *data_dir.first_members() != members {
                drop((log, machine));
                data_dir.begin_with(&members).map_err(local)?;
                (log, machine) = recover(data_dir)?;
            }
            if data_dir.is_founding() {
                let peers = data_dir.first_members().keys().filter(|id| *id != self.id.as_str()).cloned().collect();
                known = known.waiting_for(peers, self.peers_have_no_data);
            }
        } else if self.peers_have_no_data {
            tracing::info!("--peers-have-no-data is of no use any more: {} has begun", self.id);
        }
        self.check_members(data_dir, machine.raft().configuration())?;
        Ok((log, machine, known))
    }

    /// Who is named with `--peer` is a member, unless the members have changed since: a cluster that was begun without one of
    /// its nodes, by mistake, is another cluster.
    fn check_members(&self, data_dir: &DataDir, configuration: &Configuration) -> Result<(), Failure> {
        for Peer { id, addr: given, .. } in self.others() {
            let told = configuration.members().get(id).map(|member| MemberAddr::of(&member.addr).addr);
            if let Some(told) = told.filter(|told| !told.is_empty() && told != given) {
                tracing::warn!(
                    "{} says that {id} is at {given}, and the cluster that it is at {told}: trying {given}",
                    peers_come_from()
                );
            }
        }
        let unknown = self.others().map(|peer| peer.id).filter(|id| !configuration.contains(*id));
        let unknown: Vec<_> = unknown.map(|id| id.to_string()).collect();
        if unknown.is_empty() || configuration.members().is_empty() {
            return Ok(());
        }
        let names: Vec<_> = configuration.members().keys().map(NodeId::as_str).collect();
        let (unknown, members) = (unknown.join(", "), names.join(", "));
        let first: Vec<_> = data_dir.first_members().keys().map(String::as_str).collect();
        if names != first {
            tracing::warn!("{} names {unknown}; the members of this cluster are {members}", peers_come_from());
            return Ok(());
        }
        Err(Failure::local(format!(
            "{} belongs to a cluster of {members}, and {} names {unknown}: leave that out, and let a new node join \
             (raft-node --id {unknown} --join HOST:PORT); or choose another --data-dir",
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
            let damaged = |error: InvalidNodeId| {
                Failure::local(format!("the members in {} are damaged: {error}", data_dir.path().display()))
            };
            initial.push((id.parse().map_err(damaged)?, Member { voter: true, addr: addr.to_owned() }));
        }
        Ok(Config { boot_nonce: entropy()?, initial: initial.into_iter().collect(), ..self.timing() })
    }
}

/// Whether it has promised nothing to anybody.
fn is_untouched(machine: &RaftKv) -> bool {
    let raft = machine.raft();
    raft.hard_state() == HardState::default() && raft.log().last().index == Index(0)
}

/// The log, and the node that its records make: a segment of them is in memory at a time.
fn recover(config: Config, snapshot_every: u64, dir: &Path) -> Result<(Log, RaftKv), Failure> {
    let open = || Log::open(dir, Options::new(entropy()?)).map_err(|error| disk_failure(&error));
    let (records, recovery) = fold(&config.initial, dir, open, |_| {})?;
    let machine = recovery.finish(config, snapshot_every).map_err(|error| cannot(dir, &error))?;
    let (log, _) = records.finish().map_err(|error| disk_failure(&error))?;
    Ok((log, machine))
}

/// What the log in `dir` says, of which nothing is changed.
#[derive(Debug)]
pub(super) struct Found {
    /// The node that its records make. It is not to be started.
    pub(super) machine: RaftKv,
    /// The last entry that it knows to be committed.
    pub(super) committed: Index,
}

/// Reads the log in a data directory, whose node does not run.
pub(super) fn read(remains: &Remains) -> Result<Found, Failure> {
    let damaged =
        |error: InvalidNodeId| Failure::local(format!("the members in {} are damaged: {error}", remains.id()));
    let id: NodeId = remains.id().parse().map_err(damaged)?;
    let mut initial = Vec::new();
    for (id, addr) in remains.first_members() {
        initial.push((id.parse().map_err(damaged)?, Member { voter: true, addr: addr.clone() }));
    }
    let config = Config { initial: initial.into_iter().collect(), ..Config::new(id, 0, []) };
    let dir = &remains.log();
    let mut applied = Index(0);
    // A snapshot is of what was committed, whether it got whole or not.
    let look = |record: &Record| {
        if let Record::SnapshotBegin(checkpoint) = record {
            applied = applied.max(checkpoint.last.index);
        }
    };
    let open = || Log::read(dir).map_err(|error| disk_failure(&error));
    let (_, recovery) = fold(&config.initial, dir, open, look)?;
    let machine = recovery.finish(config, u64::MAX).map_err(|error| cannot(dir, &error))?;
    let raft = machine.raft();
    let is_alone = raft.configuration().voters().eq([id]);
    let committed = if is_alone { raft.log().last().index } else { raft.commit_index().max(applied) };
    Ok(Found { machine, committed })
}

fn fold<R>(
    initial: &Configuration,
    dir: &Path,
    open: impl Fn() -> Result<R, Failure>,
    mut look: impl FnMut(&Record),
) -> Result<(R, Recovery), Failure>
where
    R: Iterator<Item = Result<Bytes, disk::Error>>,
{
    let mut read = |mut recovery: Recovery| {
        let mut records = open()?;
        replay(dir, records.by_ref(), |record| {
            look(&record);
            check_commands(&record, dir)?;
            recovery.push(record).map_err(|error| cannot(dir, &RecoverError::Snapshot(error)))
        })?;
        Ok((records, recovery))
    };
    let (records, recovery) = read(Recovery::new(initial.clone()))?;
    match recovery.lacks() {
        None => Ok((records, recovery)),
        Some(snapshot) => {
            drop((records, recovery));
            read(Recovery::keeping(initial.clone(), snapshot))
        }
    }
}

/// What an entry says is found out when it is committed, which is too late to say that this netbelt is too old for it.
fn check_commands(record: &Record, dir: &Path) -> Result<(), Failure> {
    let (Record::Append(entries) | Record::SnapshotTail(entries)) = record else { return Ok(()) };
    for entry in entries {
        if let Payload::Command(command) = &entry.payload {
            let known = SessionRequest::decode(command.clone());
            known.map_err(|error| newer(dir, &format!("entry {}", entry.position.index.0), &error))?;
        }
    }
    Ok(())
}

fn cannot(dir: &Path, error: &RecoverError) -> Failure {
    if let RecoverError::Snapshot(error @ SnapshotError::Format(_)) = error {
        return newer(dir, "the snapshot", error);
    }
    Failure::local(format!(
        "cannot make a node of the log in {}: {error}; restore it from a copy of the whole directory, or remove this member and let a \
         new one join in its place",
        dir.display()
    ))
}
