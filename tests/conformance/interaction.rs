//! etcd's cluster transcripts, replayed on the machine here.
//!
//! A transcript is a list of commands with what etcd printed. The commands are carried out, and what etcd says of roles,
//! logs, hard states (term, vote, commit index) and how far logs match must be so here as well: at the end of each command, since the two
//! differ in how many messages lead there. Three differences are bridged:
//!
//! - etcd begins in term 0 with a snapshot of term 1, which cannot be here: the snapshot's term is 0, too.
//! - etcd's leader sends the commit index as soon as it moves, ours with its next append or heartbeat: a heartbeat is
//!   fired in its place.
//! - etcd batches what is proposed until its output is taken; here each proposal is flushed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bytes::Bytes;
use netbelt::node_id::NodeId;
use netbelt::protocol::{Effect, Effects, Input, Protocol, Time};
use netbelt::raft::progress::Window;
use netbelt::raft::{
    Body, Checkpoint, Command, Config, Entry, Event, HardState, Index, Message, Payload, Position, Raft, Record,
    RoleName, Term, Ticket, Timer,
};

use super::transcript::{Case, read};
use super::{say, vectors};

const JOINT: &str = "joint configurations: here members change one at a time (thesis §4.1)";
const APPLIED: &str = "a configuration counts when it is applied in etcd, and when it is appended here (thesis §4.1)";
const FORGET: &str = "forget-leader is etcd's own";
const UNASKED: &str = "etcd's application sends a snapshot that Raft did not ask for; here only Raft sends one";
const ASYNC: &str = "etcd's own interface to a disk thread; here it is the barrier, tested in src/host.rs";

/// Every transcript: replayed, or left out for a reason.
const TRANSCRIPTS: &[(&str, Result<(), &str>)] = &[
    ("async_storage_writes.txt", Err(ASYNC)),
    ("async_storage_writes_append_aba_race.txt", Err(ASYNC)),
    ("campaign.txt", Ok(())),
    ("campaign_learner_must_vote.txt", Err(APPLIED)),
    ("checkquorum.txt", Ok(())),
    ("confchange_disable_validation.txt", Err(JOINT)),
    ("confchange_v1_add_single.txt", Err(APPLIED)),
    ("confchange_v1_remove_leader.txt", Err(APPLIED)),
    ("confchange_v1_remove_leader_stepdown.txt", Err(APPLIED)),
    ("confchange_v2_add_double_auto.txt", Err(JOINT)),
    ("confchange_v2_add_double_implicit.txt", Err(JOINT)),
    ("confchange_v2_add_single_auto.txt", Err(JOINT)),
    ("confchange_v2_add_single_explicit.txt", Err(JOINT)),
    ("confchange_v2_replace_leader.txt", Err(JOINT)),
    ("confchange_v2_replace_leader_stepdown.txt", Err(JOINT)),
    ("forget_leader.txt", Err(FORGET)),
    ("forget_leader_prevote_checkquorum.txt", Err(FORGET)),
    ("forget_leader_read_only_lease_based.txt", Err(FORGET)),
    ("heartbeat_resp_recovers_from_probing.txt", Ok(())),
    ("lagging_commit.txt", Ok(())),
    ("prevote.txt", Ok(())),
    ("prevote_checkquorum.txt", Ok(())),
    ("probe_and_replicate.txt", Ok(())),
    ("replicate_pause.txt", Ok(())),
    ("single_node.txt", Ok(())),
    ("slow_follower_after_compaction.txt", Ok(())),
    ("snapshot_succeed_via_app_resp.txt", Ok(())),
    ("snapshot_succeed_via_app_resp_behind.txt", Err(UNASKED)),
];

#[test]
fn etcds_transcripts_lead_to_the_same_roles_logs_and_hard_states() {
    let Some(folder) = vectors("etcd-raft/interaction") else { return };
    let entries = fs::read_dir(&folder).expect("a folder");
    let found: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known: BTreeSet<_> = TRANSCRIPTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known, "each transcript is in the table");

    let mut differ = Vec::new();
    for (name, fate) in TRANSCRIPTS {
        match fate {
            Err(reason) => say(&format!("left out  {name}: {reason}")),
            Ok(()) => {
                let mut cluster = Cluster::default();
                for case in read(&folder.join(name)) {
                    cluster.run(&case);
                    cluster.compare(&case);
                }
                say(&format!(
                    "{} {name}: {} facts compared",
                    if cluster.differ.is_empty() { "replayed " } else { "DIFFERS  " },
                    cluster.compared
                ));
                differ.extend(cluster.differ);
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

/// A cluster in the hands of a transcript. Nodes are named by their numbers, from 1.
#[derive(Default)]
struct Cluster {
    nodes: Vec<Node>,
    /// Sent and not delivered, in order.
    network: Vec<(usize, usize, Message)>,
    compared: usize,
    differ: Vec<String>,
}

struct Node {
    raft: Raft,
    now: Time,
    /// Effects that nobody has carried out yet.
    ready: Vec<Effect<Raft>>,
    /// The commit index that its followers have been sent, while it leads.
    announced: Index,
}

impl Node {
    fn step(&mut self, input: Input<Raft>) {
        let mut effects = Effects::new();
        self.raft.step(self.now, input, &mut effects);
        for effect in effects.drain() {
            match effect {
                // The application here is empty, and so is a snapshot of it: one part.
                Effect::Emit(Event::ChunkWanted { to, number }) => {
                    let offer = Command::OfferChunk { to, number, data: Bytes::new(), done: true };
                    self.step(Input::Requested(offer));
                }
                effect => self.ready.push(effect),
            }
        }
        if let Some(flush) = self.ready.iter().position(|e| matches!(e, Effect::SetTimer(Timer::Flush, _))) {
            self.ready.remove(flush);
            self.step(Input::Elapsed(Timer::Flush));
        }
    }

    fn fire(&mut self, timer: Timer) {
        self.step(Input::Elapsed(timer));
    }

    fn leads(&self) -> bool {
        self.raft.role() == RoleName::Leader
    }

    fn has_news(&self) -> bool {
        self.leads() && self.raft.commit_index() > self.announced
    }

    /// As `raft-log` prints it.
    fn log(&self) -> Vec<String> {
        let (first, last) = (self.raft.log().first_index().0, self.raft.log().last().index.0);
        if last < first {
            return vec![format!("log is empty: first index={first}, last index={last}")];
        }
        (first..=last).map(|index| self.raft.log().get(Index(index)).expect("within the log")).map(shown).collect()
    }

    /// As `raft-state` prints it.
    fn state(&self, number: usize) -> String {
        let role = match self.raft.role() {
            RoleName::Follower => "StateFollower",
            RoleName::PreCandidate => "StatePreCandidate",
            RoleName::Candidate => "StateCandidate",
            RoleName::Leader => "StateLeader",
        };
        let voter = if self.raft.configuration().is_voter(name(number)) { "Voter" } else { "Non-Voter" };
        let lead = self.raft.leader().map_or(0, number_of);
        format!("{number}: {role} ({voter}) Term:{} Lead:{lead}", self.raft.hard_state().current_term.0)
    }

    /// As `status` prints it, save for the flow: how far each follower's log is known to match. The leader's own does at
    /// once here, and in etcd when it is durable.
    fn matched(&self) -> Vec<String> {
        let followers = self.raft.progress().into_iter().flatten();
        followers.map(|(id, progress)| format!("{}: match={}", number_of(*id), progress.match_index.0)).collect()
    }

    /// As `HardState` prints it: what is zero is left out.
    fn hard_state(&self) -> String {
        let HardState { current_term, voted_for } = self.raft.hard_state();
        let vote = voted_for.map_or(0, number_of);
        let parts = [("Term", current_term.0), ("Vote", vote as u64), ("Commit", self.raft.commit_index().0)];
        let parts = parts.iter().filter(|(_, value)| *value > 0).map(|(key, value)| format!("{key}:{value}"));
        parts.collect::<Vec<_>>().join(" ")
    }
}

fn shown(entry: &Entry) -> String {
    let Position { term, index } = entry.position;
    let data = match &entry.payload {
        Payload::Noop => "",
        Payload::Command(bytes) => std::str::from_utf8(bytes).expect("text was proposed"),
        Payload::Configuration(_) => unreachable!("transcripts that change the members are left out"),
    };
    format!("{}/{} EntryNormal {data:?}", term.0, index.0)
}

fn name(number: usize) -> NodeId {
    NodeId::numbered(number)
}

fn number_of(id: NodeId) -> usize {
    id.as_str()[1..].parse().expect("nodes are numbered")
}

fn numbers(words: &[String]) -> Vec<usize> {
    words.iter().map(|word| word.parse().expect("a node's number")).collect()
}

impl Cluster {
    fn run(&mut self, case: &Case) {
        let one = || -> usize { case.words[0].parse().expect("a node's number") };
        match case.command.as_str() {
            "log-level" | "status" | "raft-state" | "raft-log" | "set-randomized-election-timeout" => {}
            "add-nodes" => self.add_nodes(case),
            "campaign" => self.node(one()).fire(Timer::Election),
            "propose" => {
                let command = Bytes::from(case.words[1].clone());
                self.node(one()).step(Input::Requested(Command::Propose { ticket: Ticket(0), command }));
            }
            "process-ready" => numbers(&case.words).into_iter().for_each(|number| self.process_ready(number)),
            "deliver-msgs" => self.deliver(case),
            "stabilize" if case.words.is_empty() => self.stabilize(&(1..=self.nodes.len()).collect::<Vec<_>>()),
            "stabilize" => self.stabilize(&numbers(&case.words)),
            "tick-heartbeat" => self.node(one()).fire(Timer::Heartbeat),
            "tick-election" => {
                // A leader speaks in between; whoever follows is told by `campaign` when its time is over.
                let node = self.node(one());
                let leads = node.leads();
                if leads {
                    node.fire(Timer::Heartbeat);
                }
                node.now = node.now + *node.raft.config().election_timeout.start();
                if leads {
                    node.fire(Timer::Heartbeat);
                }
            }
            "compact" => {
                // All that is applied, which is at least what etcd is told to forget.
                let node = self.node(one());
                assert!(node.raft.last_applied().0 >= case.words[1].parse().expect("an index"), "{}", case.at);
                node.step(Input::Requested(Command::BeginSnapshot));
                node.step(Input::Requested(Command::EndSnapshot));
            }
            // A connection that breaks is no news to this machine: an answer that is missing says the same.
            "report-unreachable" => {}
            other => panic!("{}: unknown command {other}", case.at),
        }
    }

    fn node(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    fn add_nodes(&mut self, case: &Case) {
        let count: usize = case.words[0].parse().expect("how many");
        let voters: Vec<usize> = case.list("voters").into_iter().flatten().map(|id| id.parse().unwrap()).collect();
        let base = Index(case.option("index").map_or(0, |index| index.parse().expect("an index")));
        let set = |key| case.option(key) == Some("true");
        for _ in 0..count {
            let id = name(self.nodes.len() + 1);
            let usual = Config::new(id, 0, voters.iter().copied().map(name));
            let appends = case.option("inflight").map_or(64, |window| window.parse().expect("a window"));
            let config = Config {
                pre_vote: set("prevote"),
                check_quorum: set("checkquorum"),
                window: Window { appends, ..usual.window },
                retained_bytes: 0,
                ..usual
            };
            let last = Position { term: Term(0), index: base };
            let configuration = config.initial.clone();
            let begin = Record::SnapshotBegin(Checkpoint { hard_state: HardState::default(), last, configuration });
            let raft = Raft::recover(config, [begin, Record::SnapshotEnd]).expect("a configuration that works");
            let mut node = Node { raft, now: Time::ZERO, ready: Vec::new(), announced: base };
            if voters.len() > 1 {
                node.step(Input::Started); // alone, it would not wait for `campaign`
                node.ready.clear();
            }
            self.nodes.push(node);
        }
    }

    /// Makes durable and sends what the node wants.
    fn process_ready(&mut self, number: usize) {
        let node = self.node(number);
        if node.has_news() {
            node.announced = node.raft.commit_index();
            node.fire(Timer::Heartbeat);
        }
        let sent: Vec<_> = std::mem::take(&mut node.ready)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Send { to, message } => Some((number, number_of(to), message)),
                Effect::Persist(_)
                | Effect::Meanwhile { .. }
                | Effect::Emit(_)
                | Effect::EmitAtOnce(_)
                | Effect::SetTimer(..)
                | Effect::CancelTimer(_) => None,
            })
            .collect();
        self.network.extend(sent);
    }

    fn has_ready(&self, number: usize) -> bool {
        let node = &self.nodes[number - 1];
        node.has_news() || node.ready.iter().any(|e| matches!(e, Effect::Send { .. } | Effect::Persist(_)))
    }

    fn deliver(&mut self, case: &Case) {
        let drop: Vec<usize> = case.list("drop").into_iter().flatten().map(|id| id.parse().unwrap()).collect();
        let kind = case.option("type");
        for number in numbers(&case.words) {
            self.deliver_to(number, kind);
        }
        self.network.retain(|(_, to, _)| !drop.contains(to));
    }

    /// Delivers what is on its way to a node, of one kind if it is named. False when there is nothing.
    fn deliver_to(&mut self, number: usize, kind: Option<&str>) -> bool {
        let due =
            self.network.extract_if(.., |(_, to, message)| *to == number && kind.is_none_or(|k| k == kind_of(message)));
        let due: Vec<_> = due.collect();
        for (from, _, message) in &due {
            let input = Input::Received { from: name(*from), message: message.clone() };
            self.node(number).step(input);
        }
        !due.is_empty()
    }

    fn stabilize(&mut self, numbers: &[usize]) {
        for _ in 0..1000 {
            let mut quiet = true;
            for &number in numbers {
                if self.has_ready(number) {
                    self.process_ready(number);
                    quiet = false;
                }
            }
            for &number in numbers {
                quiet &= !self.deliver_to(number, None);
            }
            if quiet {
                return;
            }
        }
        panic!("the nodes {numbers:?} never come to rest");
    }

    /// What etcd says of a node must be so here.
    fn compare(&mut self, case: &Case) {
        let facts: Vec<(String, String)> = match case.command.as_str() {
            "raft-state" => {
                let ours = self.nodes.iter().zip(1..).map(|(node, number)| node.state(number));
                ours.zip(&case.output).map(|(ours, theirs)| (ours, theirs.clone())).collect()
            }
            "status" => {
                let leader = numbers(&case.words)[0];
                let theirs = case.output.iter().filter_map(|line| match_of(line, leader));
                self.node(leader).matched().into_iter().zip(theirs).collect()
            }
            "raft-log" => {
                let ours = self.node(numbers(&case.words)[0]).log();
                vec![(ours.join("; "), case.output.join("; "))]
            }
            _ => {
                let ours = |(number, theirs): (usize, String)| {
                    (format!("{number} {}", self.node(number).hard_state()), format!("{number} {theirs}"))
                };
                hard_states(case).into_iter().map(ours).collect()
            }
        };
        for (ours, theirs) in facts {
            self.compared += 1;
            if ours != theirs {
                self.differ.push(format!("{} {}: {ours}, not {theirs}", case.at, case.command));
            }
        }
    }
}

/// The last hard state that a command printed of each node.
fn hard_states(case: &Case) -> BTreeMap<usize, String> {
    let mut states = BTreeMap::new();
    let mut number = (case.command == "process-ready").then(|| numbers(&case.words)[0]);
    for line in &case.output {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [">", of, "handling", "Ready"] => number = Some(of.parse().expect("a node's number")),
            ["HardState", rest @ ..] => {
                let rest: Vec<_> = rest.iter().copied().filter(|part| !part.ends_with(":0")).collect();
                states.insert(number.expect("a hard state is somebody's"), rest.join(" "));
            }
            _ => {}
        }
    }
    states
}

/// `1: match=5` of `1: StateReplicate match=5 next=6`, unless that is the leader itself.
fn match_of(line: &str, leader: usize) -> Option<String> {
    let words: Vec<_> = line.split(' ').collect();
    (words[0] != format!("{leader}:")).then(|| format!("{} {}", words[0], words[2]))
}

/// What etcd calls such a message.
fn kind_of(message: &Message) -> &'static str {
    match &message.body {
        Body::RequestVote { .. } => "MsgVote",
        Body::Vote { .. } => "MsgVoteResp",
        Body::Append(_) => "MsgApp",
        Body::Appended { .. } => "MsgAppResp",
        Body::ReadIndex { .. } => "MsgReadIndex",
        Body::ReadIndexIs { .. } => "MsgReadIndexResp",
        Body::InstallSnapshot(_) => "MsgSnap",
        Body::Installing { .. } => "MsgSnapResp",
        Body::TimeoutNow => "MsgTimeoutNow",
        Body::Heartbeat { .. } => "MsgHeartbeat",
        Body::HeartbeatReply { .. } => "MsgHeartbeatResp",
    }
}
