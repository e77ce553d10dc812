//! What a node reports of itself: `/status`, `/debug`, `/health` (also as `/readyz`), `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, encoding::EncodeMetric};
use serde::Serialize;

use super::member_rows::{Member, rows};
use super::members_table::Members;
use crate::defaults::{MAX_DEBUG_BYTES, MAX_LIST_LIMIT};
use crate::kv::RaftKv;
use crate::kv::raft_kv::PROTOCOL;
use crate::net::disk::Reserve;
use crate::net::identity::data_dir;
use crate::net::identity::random_id::RandomId;
use crate::net::writer::DiskMetrics;
use crate::node_id::NodeId;

/// The health of a node that can serve.
pub(super) const HEALTHY: &str = "ok";

/// What a node knows about itself beside its machine.
#[derive(Clone)]
pub struct NodeInfo {
    /// Its name.
    pub id: NodeId,
    /// Where it serves.
    pub addr: String,
    /// The names that it is called by on this machine, beside `localhost`.
    pub names: Vec<String>,
    /// The members, the links to them, and whom it has met.
    pub members: Arc<Members>,
    /// Whether it can be told to ignore peers.
    pub may_cut: bool,
    /// Stale reads that were answered.
    pub stale_reads: Counter,
    /// How its disk does.
    pub disk: DiskMetrics,
    /// What its log keeps back for a full disk.
    pub reserve: Reserve,
}

/// The body of `/status` and `/debug`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    node_id: String,
    /// The version of netbelt, the format of its data directory, and the protocol that it speaks with its peers.
    netbelt: &'static str,
    data_format: u32,
    protocol: u32,
    state: &'static str,
    term: u64,
    leader_id: Option<String>,
    voted_for: Option<String>,
    log_length: usize,
    first_index: u64,
    last_index: u64,
    commit_index: u64,
    last_applied: u64,
    snapshot_index: u64,
    /// The cluster's random number, once it is known, and this data directory's.
    cluster_id: Option<RandomId>,
    incarnation: RandomId,
    members: Vec<Member>,
    health: String,
    /// What somebody should look after, although the node can serve.
    warnings: Vec<String>,
    keys: usize,
    /// Of the store.
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_machine: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_machine_truncated: Option<bool>,
}

impl NodeInfo {
    /// The status; with the beginning of the store, if asked for.
    pub fn status(&self, machine: &RaftKv, halted: Option<&str>, with_store: bool) -> Status {
        let raft = machine.raft();
        let log = raft.log();
        let name = |id: NodeId| id.as_str().to_owned();
        let (state_machine, state_machine_truncated) = with_store.then(|| store_of(machine)).unzip();
        // A halted machine stands still: whatever role it had, it plays it no more.
        let (state, leader) = if halted.is_some() { ("halted", None) } else { (raft.role().as_str(), raft.leader()) };
        Status {
            node_id: name(self.id),
            netbelt: data_dir::VERSION,
            data_format: data_dir::FORMAT,
            protocol: PROTOCOL,
            state,
            term: raft.hard_state().current_term.0,
            leader_id: leader.map(name),
            voted_for: raft.hard_state().voted_for.map(name),
            log_length: log.len(),
            first_index: log.first_index().0,
            last_index: log.last().index.0,
            commit_index: raft.commit_index().0,
            last_applied: raft.last_applied().0,
            snapshot_index: raft.snapshot().index.0,
            cluster_id: machine.state().cluster().map(RandomId).or(self.members.known_peers().cluster()),
            incarnation: self.members.known_peers().incarnation(),
            members: rows(machine, &self.members, &self.addr),
            health: self.health(machine, halted),
            warnings: self.warnings(machine),
            keys: machine.store().len(),
            version: machine.store().version(),
            state_machine,
            state_machine_truncated,
        }
    }

    /// The metrics, as text in the OpenMetrics format.
    pub fn metrics(&self, machine: &RaftKv) -> String {
        let mut registry = Registry::with_prefix("netbelt_raft");
        let disk = self.disk.clone();
        let in_hand = Gauge::<f64, AtomicU64>::default();
        in_hand.set(disk.in_hand().as_secs_f64());
        registry.register(
            "fsync_in_hand_seconds",
            "For how long the disk has had the batch that is on its way",
            in_hand,
        );
        registry.register("fsync_seconds", "Time to make a batch durable", disk.fsync_seconds);
        registry.register("log_segments", "Segment files that the log has", disk.segments);
        registry.register(
            "snapshots",
            "Snapshots that this node has made durable, its own and its leader's",
            disk.snapshots,
        );
        registry.register("fsync_entries", "Log entries made durable by one fdatasync", disk.batch_entries);
        registry.register_collector(Box::new(Numbers::of(self, machine)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        text
    }

    /// Why the node is in no cluster, if it is in none, as far as it knows.
    pub fn outside(&self, machine: &RaftKv) -> Option<String> {
        let raft = machine.raft();
        if raft.leader().is_some() || raft.configuration().contains(self.id) {
            return None;
        }
        let id = self.id;
        Some(match self.members.known_peers().refusal() {
            Some(refusal) => format!("{id} is not in a cluster: {refusal}"),
            None if raft.configuration().members().is_empty() => {
                format!("{id} is not in a cluster yet: {}", self.lacks())
            }
            None => format!("{id} was removed from the cluster"),
        })
    }

    /// What a node needs that has not heard of members yet.
    fn lacks(&self) -> String {
        match self.members.known_peers().cluster() {
            Some(cluster) => format!(
                "cluster {cluster} adds it, and its leader has not connected to {}; if that is not where the others reach it, \
                 start it with --advertise HOST:PORT",
                self.addr
            ),
            None => "start it with --join HOST:PORT of a node that is".to_owned(),
        }
    }

    /// The members that are not connected, or refuse this node.
    fn warnings(&self, machine: &RaftKv) -> Vec<String> {
        let known = self.members.known_peers();
        let (refusals, turned_away) = (known.refusals(), known.turned_away());
        let warning = |member: &Member| {
            let (id, addr) = (member.id.as_str(), &member.addr);
            match (refusals.get(id), turned_away.get(id)) {
                (Some(why), _) => Some(format!("{id} at {addr} refuses this node: {why}")),
                // One that is connected is not the one that was refused under its name.
                (None, Some(why)) if member.is_away() => Some(format!("{id} at {addr} is refused: {why}")),
                (None, _) if member.is_away() => Some(format!("{id} at {addr} is not connected")),
                (None, _) => None,
            }
        };
        let mut warnings: Vec<_> = rows(machine, &self.members, &self.addr).iter().filter_map(warning).collect();
        if self.reserve.bytes() == 0 {
            warnings.push("nothing is kept back for the day on which the disk is full: free some space".to_owned());
        }
        warnings
    }

    /// What keeps the node from serving, or `ok`.
    pub fn health(&self, machine: &RaftKv, halted: Option<&str>) -> String {
        let configuration = machine.raft().configuration();
        let stands_still = self.disk.stands_still();
        match (halted.or(stands_still.as_deref()), machine.raft().leader()) {
            (Some(why), _) => why.to_owned(),
            (None, Some(_)) => HEALTHY.to_owned(),
            (None, None) => match self.members.known_peers().refusal() {
                Some(refusal) => refusal,
                None if configuration.members().is_empty() => {
                    format!("not a member of a cluster yet: {}", self.lacks())
                }
                None if !configuration.contains(self.id) => format!("{} was removed from the cluster", self.id),
                None => "no leader".to_owned(),
            },
        }
    }
}

/// The first keys and values of the store, and whether more follow.
fn store_of(machine: &RaftKv) -> (BTreeMap<String, String>, bool) {
    let page = machine.store().list(b"", None, MAX_LIST_LIMIT);
    let mut bytes = 0;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut map = BTreeMap::new();
    for (key, versioned) in &page.items {
        bytes += key.len() + versioned.value.len();
        if bytes > MAX_DEBUG_BYTES {
            return (map, true);
        }
        map.insert(text(key), text(&versioned.value));
    }
    (map, page.more)
}

/// Numbers read off the machine at the moment of a scrape.
#[derive(Debug)]
struct Numbers {
    gauges: Vec<(&'static str, &'static str, i64)>,
    counters: Vec<(&'static str, &'static str, u64)>,
    role: &'static str,
    match_index: Vec<(NodeId, i64)>,
}

impl Numbers {
    fn of(info: &NodeInfo, machine: &RaftKv) -> Self {
        let raft = machine.raft();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let is_leader = raft.role() == crate::raft::RoleName::Leader;
        let links = info.members.links().states();
        let links_up = links.values().filter(|link| link.is_up).count();
        let followers = raft.progress().into_iter().flatten();
        Self {
            gauges: vec![
                ("term", "Current term", gauge(raft.hard_state().current_term.0)),
                ("is_leader", "1 on the leader, else 0", i64::from(is_leader)),
                ("has_leader", "1 when a leader is known, else 0", i64::from(raft.leader().is_some())),
                ("last_index", "Last entry of the log", gauge(raft.log().last().index.0)),
                ("commit_index", "Last entry known to be committed", gauge(raft.commit_index().0)),
                ("applied_index", "Last entry applied to the store", gauge(raft.last_applied().0)),
                (
                    "apply_lag",
                    "Entries committed and not applied yet",
                    gauge(raft.commit_index().0 - raft.last_applied().0),
                ),
                ("snapshot_index", "Last entry that the latest snapshot replaces", gauge(raft.snapshot().index.0)),
                ("sessions", "Clients whose writes are remembered", gauge(machine.state().sessions().len() as u64)),
                (
                    "forgotten_names",
                    "Clients that are not remembered any more, and are known by name",
                    gauge(machine.state().sessions().forgotten_names() as u64),
                ),
                ("members", "Members of the cluster", gauge(raft.configuration().members().len() as u64)),
                ("reserve_bytes", "Space that is kept back for a full disk", gauge(info.reserve.bytes())),
                ("keys", "Keys in the store", gauge(machine.store().len() as u64)),
                ("requests_in_hand", "Requests being worked on", gauge(machine.requests_in_hand() as u64)),
                ("links_up", "Peers this node is connected to", gauge(links_up as u64)),
                ("warnings", "Warnings in /status", gauge(info.warnings(machine).len() as u64)),
            ],
            counters: vec![
                ("elections", "Elections started by this node", raft.counters().elections),
                ("proposals", "Writes proposed on this node", machine.counters().proposals),
                ("reads", "Reads asked of this node", machine.counters().reads + info.stale_reads.get()),
                ("forwarded", "Writes forwarded to the leader", machine.counters().forwarded),
                ("bad_messages", "Messages of peers that broke a rule", raft.counters().bad_messages),
                (
                    "messages_dropped",
                    "Messages not sent, to peers that are down or slow",
                    links.values().map(|link| link.dropped).sum(),
                ),
            ],
            role: raft.role().as_str(),
            match_index: followers.map(|(id, progress)| (*id, gauge(progress.match_index.0))).collect(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for (name, help, value) in &self.gauges {
            let gauge = ConstGauge::new(*value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in &self.counters {
            let counter = ConstCounter::new(*value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let mut family = encoder.encode_descriptor("role", "1 for the role it plays, else 0", None, kind)?;
        for role in ["follower", "candidate", "leader"] {
            let plays = ConstGauge::new(i64::from(role == self.role));
            plays.encode(family.encode_family(&RoleLabel { role })?)?;
        }
        if !self.match_index.is_empty() {
            let help = "How far a follower's log is known to match, on the leader";
            let mut family = encoder.encode_descriptor("match_index", help, None, kind)?;
            for (peer, index) in &self.match_index {
                let label = PeerLabel { peer: peer.as_str().to_owned() };
                ConstGauge::new(*index).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}
