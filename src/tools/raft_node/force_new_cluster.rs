//! `raft-node --force-new-cluster`: one node goes on alone, in a new cluster, when the majority of the old one is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::args::Args;
use super::{dump, recovery};
use crate::cli::{Failure, Kind, Output, Tool};
use crate::http::client::Client;
use crate::kv::State;
use crate::kv::raft_kv::PROTOCOL;
use crate::net::disk::{self, Batch, Log, Options};
use crate::net::identity::data_dir::{DataDirError, Remains};
use crate::net::identity::random_id::{MemberAddr, RandomId};
use crate::node_id::NodeId;
use crate::raft::{Checkpoint, Configuration, HardState, Index, Member, Position, Record};
use crate::tools::entropy;
use crate::tools::node::{data_dir_failure, disk_failure};
use crate::wire::Wire;

/// How long each of the other members may take to say that nothing is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// The node that goes on.
pub(super) struct Survivor {
    pub(super) id: NodeId,
    pub(super) dir: PathBuf,
    /// Where the others reach it from now on; None, where they did before.
    pub(super) addr: Option<String>,
    /// Where the operator says that other members are.
    pub(super) given: BTreeMap<NodeId, String>,
}

impl Survivor {
    /// The node of these arguments.
    pub(super) fn of(args: &Args) -> Self {
        let is_reachable =
            |addr: &&String| addr.parse().is_ok_and(|at: SocketAddr| at.port() != 0 && !at.ip().is_unspecified());
        let addr = args.advertise.clone().or_else(|| args.listen.as_ref().filter(is_reachable).cloned());
        let given = args.others().map(|peer| (peer.id, peer.addr.clone())).collect();
        Self { id: args.id, dir: args.data_dir(), addr, given }
    }
}

/// Makes the data directory that of a cluster of one.
pub(super) async fn run(survivor: Survivor, output: &Output) -> Result<(), Failure> {
    let Survivor { id, dir, addr, given } = survivor;
    let remains = Remains::take(&dir, Args::NAME, id.as_str()).map_err(|error| data_dir_failure(&error))?;
    let recovery::Found { machine, committed } = recovery::read(&remains)?;
    let raft = machine.raft();
    let (last, hard_state) = (raft.log().last(), raft.hard_state());
    let members = raft.configuration().members().clone();
    let state = machine.into_state(last.index).map_err(|error| Failure::local(error.to_string()))?;
    let Some(cluster) = state.cluster().map(RandomId) else {
        return Err(no(format!(
            "{} has nothing of a cluster that ever had a leader, so there is nothing to save: start with an empty --data-dir",
            dir.display()
        )));
    };
    if members.keys().eq([&id]) {
        return Err(no(format!(
            "{} is that of a cluster of {id} alone already: start {id} without --force-new-cluster",
            dir.display()
        )));
    }
    if !members.contains_key(&id) {
        tracing::warn!("{id} was removed from its cluster: what was written after that is not here");
    }
    let others: BTreeMap<_, _> = members
        .iter()
        .filter(|(name, _)| **name != id)
        .map(|(name, member)| (*name, given.get(name).cloned().unwrap_or_else(|| MemberAddr::of(&member.addr).addr)))
        .collect();
    ask_others(id, cluster, last.index, &others).await?;

    let (new_cluster, incarnation) = (RandomId(entropy()?), RandomId(entropy()?));
    let addr = addr.unwrap_or_else(|| members.get(&id).map(|own| MemberAddr::of(&own.addr).addr).unwrap_or_default());
    let own = MemberAddr { addr, incarnation: Some(incarnation) };
    let (keys, version) = (state.store().len(), state.store().version());
    let refused = |error: DataDirError| data_dir_failure(&error);
    let log = remains.new_log().map_err(refused)?;
    let configuration = [(id, Member { voter: true, addr: own.to_string() })].into_iter().collect();
    if let Err(error) = write_log(&log, state.moved_to(new_cluster.0), last, hard_state, configuration) {
        remains.give_up();
        return Err(error);
    }
    let kept = remains.replace(&format!("before-{cluster}"), incarnation, PROTOCOL).map_err(refused)?;

    let names: Vec<_> = others.keys().map(NodeId::as_str).collect();
    let names = names.join(", ");
    let done = json!({
        "event": "forced", "id": id.as_str(), "cluster": new_cluster, "oldCluster": cluster, "keys": keys, "version": version,
        "through": last.index.0, "committed": committed.0, "lostMembers": others.keys().map(NodeId::as_str).collect::<Vec<_>>(),
        "kept": kept.display().to_string(),
    });
    output.result(&done, || {
        let doubt = if committed < last.index {
            format!(
                "Not known to be committed, and kept: {}; writes of which nobody was told, or that failed, may be among them.\n",
                dump::entries(committed, last.index)
            )
        } else {
            String::new()
        };
        let at = if own.addr.is_empty() { "HOST:PORT" } else { &own.addr };
        format!(
            "{id} is the only member of the new cluster {new_cluster}, with {keys} keys at version {version}, through entry {} of \
             cluster {cluster}.\n{doubt}\
             Lost: what {names} acknowledged and {id} never got, if there was anything after that entry.\n\
             Kept: all that was in {}, in {}.\n\
             Next: start {id} as always, and let the others join with empty directories, such as raft-node --id {} --join {at}",
            last.index.0,
            dir.display(),
            kept.display(),
            others.keys().next().map_or("n2", NodeId::as_str),
        )
    })
}

/// Refuses when one of the other members answers, and knows better.
async fn ask_others(
    id: NodeId,
    cluster: RandomId,
    last: Index,
    others: &BTreeMap<NodeId, String>,
) -> Result<(), Failure> {
    let asked = others.iter().filter(|(_, addr)| !addr.is_empty()).map(|(name, addr)| {
        let (name, addr) = (*name, addr.clone());
        (name, addr.clone(), tokio::spawn(async move { status(&addr).await }))
    });
    for (name, addr, answer) in asked.collect::<Vec<_>>() {
        let Some(status) = answer.await.ok().flatten() else { continue };
        if status["clusterId"] != json!(cluster) {
            continue; // somebody else is there now
        }
        if let Some(leader) = status["leaderId"].as_str() {
            return Err(no(format!(
                "{name} at {addr} says that the cluster has a leader, {leader}: nothing is lost. To replace {id}, or members that \
                 are gone: raft-ctl members remove ID, then raft-node --id ID --join {addr} with an empty --data-dir"
            )));
        }
        if let Some(commit) = status["commitIndex"].as_u64().filter(|commit| *commit > last.0) {
            return Err(no(format!(
                "{name} at {addr} knows entry {commit} to be committed, and {id} has no more than {}: force the new cluster from \
                 the directory of {name}, or, if that must not be, stop {name} first",
                last.0
            )));
        }
        tracing::warn!(
            "{name} at {addr} answers, and has {} entries to the {} of {id}; the one that has more is the better one to go on with",
            status["lastIndex"],
            last.0
        );
    }
    Ok(())
}

async fn status(addr: &str) -> Option<Value> {
    let ask = async {
        let mut client = Client::connect(addr, Args::NAME).await.ok()?;
        client.ask(Method::GET, "/status", Bytes::new(), &[], PATIENCE).await.ok()
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await.ok().flatten()?;
    serde_json::from_slice(&answer.body).ok()
}

/// Writes a log that holds a snapshot of the state after entry `last`, and nothing else.
fn write_log(
    dir: &Path,
    mut state: State,
    last: Position,
    hard_state: HardState,
    configuration: Configuration,
) -> Result<(), Failure> {
    let opened = Log::open(dir, Options::new(entropy()?)).and_then(disk::Recovery::finish);
    let (mut log, _) = opened.map_err(|error| disk_failure(&error))?;
    let mut batch = Batch::new();
    let mut write = |record: Record| {
        batch.push_with(|out| record.encode(out));
        log.append(&mut batch).map(drop).map_err(|error| disk_failure(&error))
    };
    let hard_state = HardState { voted_for: None, ..hard_state };
    write(Record::SnapshotBegin(Checkpoint { hard_state, last, configuration }))?;
    let view = state.open_view();
    while let Some(chunk) = state.next_chunk(view) {
        write(Record::SnapshotChunk(chunk))?;
    }
    write(Record::SnapshotEnd)
}

fn no(message: String) -> Failure {
    Failure::new(Kind::No, message)
}
