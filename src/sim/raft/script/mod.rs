//! A cluster of bare Raft nodes that does what a script says, one command at a time, and nothing by chance.
//!
//! Messages wait until they are delivered. A disk is done at once, unless it is held. Time stands still until it elapses,
//! and each node has a clock of its own. The application of each node is the list of commands it has applied. The
//! invariants are checked after each command ([`invariants`], and a checker that remembers the whole run).
//!
//! What can be seen of a node is what a machine shows that writes its disk synchronously and happens to be slow: with a
//! held disk, it neither commits nor speaks on the strength of what is not durable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::checker::Checker;
use crate::host::{Host, Output};
use crate::node_id::NodeId;
use crate::protocol::{Input, Time};
use crate::raft::{
    self, Change, Config, Event, Index, Payload, Raft, Record, Recovered, Recovery, RoleName, Ticket, Timer, invariants,
};
use crate::sim::observe::{Look, Observable};
use crate::sim::scenario::outlive;
use crate::sim::trace::{Keep, Moment, Trace, What};

mod answer;
mod command;
mod network;
mod view;

pub use answer::{Answer, Field, Known, ReadAnswer, Refusal, State, Unmet, Violation};
pub use command::{Alarm, Command, Link, MOST_NODES, Setting};
use network::Sent;

/// The longest time that passes in one line.
pub const LONGEST_ELAPSE: Duration = Duration::from_secs(3600);

/// Correct nodes fall silent long before: while no timer runs out, each message is answered, and each answer brings a
/// follower further.
const MOST_DELIVERIES: usize = 100_000;

/// A cluster on a script's strings.
pub struct Script {
    nodes: BTreeMap<usize, Node>,
    /// How a node is set up that is not told otherwise.
    settings: Settings,
    /// How many nodes there were in the beginning.
    began: usize,
    /// In the order of sending.
    in_flight: Vec<Sent>,
    cuts: BTreeSet<Link>,
    next_ticket: u64,
    next_flight: u64,
    checker: Checker,
    trace: Trace,
    /// The clock of a node that was never told to run ahead.
    now: Time,
    answers: Vec<ReadAnswer>,
    /// What each node's latest read came to.
    latest_reads: BTreeMap<usize, ReadAnswer>,
    refused: BTreeMap<Ticket, raft::Refusal>,
}

#[derive(Clone, Copy)]
struct Settings {
    pre_vote: bool,
    check_quorum: bool,
    max_append: Option<usize>,
}

impl Settings {
    fn with(mut self, changes: impl IntoIterator<Item = Setting>) -> Self {
        for change in changes {
            match change {
                Setting::PreVote(on) => self.pre_vote = on,
                Setting::CheckQuorum(on) => self.check_quorum = on,
                Setting::MaxAppend(bytes) => self.max_append = Some(bytes),
            }
        }
        self
    }
}

struct Node {
    settings: Settings,
    host: Option<Host<Raft>>,
    disk: Vec<Record>,
    held: bool,
    now: Time,
    life: u64,
    /// What may be known of it outside: it changes when the disk has everything.
    shown: Vec<Look>,
    commit: Index,
    /// What of its log may be known outside: the first index, and the term of each entry. Only in a trace.
    shown_log: (u64, Vec<u64>),
    applied: Index,
    data: Vec<String>,
    /// Parts of a snapshot that come from the leader.
    incoming: Vec<Bytes>,
    /// Parts of a snapshot that followers want.
    wanted: Vec<(NodeId, u64)>,
    asked: BTreeMap<Ticket, Asked>,
}

enum Asked {
    Other,
    Read,
}

impl Script {
    /// A world without nodes: `nodes` makes them.
    pub fn new(keep: Keep) -> Self {
        Self {
            nodes: BTreeMap::new(),
            settings: Settings { pre_vote: true, check_quorum: true, max_append: None },
            began: 0,
            in_flight: Vec::new(),
            cuts: BTreeSet::new(),
            next_ticket: 0,
            next_flight: 0,
            checker: Checker::default(),
            trace: Trace::new(keep),
            now: Time::ZERO,
            answers: Vec::new(),
            latest_reads: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Does what a line says, and checks the invariants.
    ///
    /// # Errors
    /// When one does not hold.
    pub fn run(&mut self, line: usize, text: &str, command: &Command) -> Result<Answer, Violation> {
        // To look at the nodes is no step.
        if !matches!(command, Command::State(_) | Command::Pending | Command::Progress(_) | Command::Expect(..)) {
            self.trace.next_step();
        }
        self.trace.moment(self.now, || What::Line { number: line, text: text.to_owned() });
        outlive(|| self.obey(command)).and_then(|answer| self.check().map(|()| answer)).map_err(Violation)
    }

    /// The reads that were answered since this was last asked.
    pub fn take_reads(&mut self) -> Vec<ReadAnswer> {
        std::mem::take(&mut self.answers)
    }

    /// The moments since this was last asked, when they are kept.
    pub fn take_moments(&mut self) -> Vec<Moment> {
        self.trace.take_moments()
    }

    /// The highest number of a node.
    pub fn most_nodes(&self) -> usize {
        self.nodes.keys().max().copied().unwrap_or_default()
    }

    /// How many messages are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn obey(&mut self, command: &Command) -> Result<Answer, String> {
        if let Err(mistake) = self.check_numbers(command) {
            return Ok(Answer::Refused(Refusal::Mistake(mistake)));
        }
        match *command {
            Command::Nodes { count, ref settings } => {
                let of =
                    |of: Option<usize>| settings.iter().filter(move |(node, _)| *node == of).map(|(_, what)| *what);
                self.settings = self.settings.with(of(None));
                self.began = count;
                for node in 1..=count {
                    self.nodes.insert(node, Node::down(self.settings.with(of(Some(node))), self.now));
                    self.start(node)?;
                }
                Ok(Answer::Done)
            }
            Command::Fire(node, alarm) => self.fire(node, alarm),
            Command::Elapse(time, None) => self.elapse(time, &self.numbers()),
            Command::Elapse(time, Some(node)) => self.elapse(time, &[node]),
            Command::Propose(node, ref text) => self.propose(node, text),
            Command::Read(node) => self.read(node),
            Command::Deliver(link, kind, count) => self.deliver(Some(link), kind, count),
            Command::DeliverAll => {
                let delivered = self.deliver(None, None, MOST_DELIVERIES)?;
                if self.in_flight.is_empty() {
                    return Ok(delivered);
                }
                Err(format!("the nodes do not fall silent: {MOST_DELIVERIES} messages were delivered in one line"))
            }
            Command::Drop(link, kind, count) => Ok(self.lose(Some(link), kind, count)),
            Command::DropAll => Ok(self.lose(None, None, usize::MAX)),
            Command::Dup(link) => Ok(self.duplicate(link)),
            Command::Reorder(link) => Ok(self.reorder(link)),
            Command::Cut(link) => Ok(self.cut([link])),
            Command::Join(link) => Ok(self.join([link])),
            Command::Isolate(ref nodes) => {
                let mut links = Vec::new();
                for &node in nodes {
                    for other in self.numbers().into_iter().filter(|other| !nodes.contains(other)) {
                        links.extend([Link { from: node, to: other }, Link { from: other, to: node }]);
                    }
                }
                Ok(self.cut(links))
            }
            Command::Heal => Ok(self.join(self.cuts.clone())),
            Command::HoldDisk(node) => {
                self.node(node).held = true;
                Ok(Answer::Done)
            }
            Command::Sync(node) => {
                self.node(node).held = false;
                self.settle(node)?;
                Ok(Answer::Done)
            }
            Command::Crash(node) => Ok(self.crash(node)),
            Command::Restart(node, ref settings) => {
                let state = self.node(node);
                if state.host.is_some() {
                    return Ok(not_now(format!("node {node} is up")));
                }
                state.settings = state.settings.with(settings.iter().copied());
                self.start(node)?;
                Ok(Answer::Done)
            }
            Command::Wipe(node) => self.wipe(node),
            Command::Snapshot(node) => self.snapshot(node),
            Command::Transfer(node, to) => self.transfer(node, to),
            Command::Add(node, ref settings) => self.add(node, settings),
            Command::Remove(node) => self.change(Change::Remove { node: NodeId::numbered(node) }),
            Command::State(None) => Ok(Answer::States(self.nodes.keys().map(|node| self.state(*node)).collect())),
            Command::State(Some(node)) => Ok(Answer::States(vec![self.state(node)])),
            Command::Pending => Ok(Answer::Pending(self.in_flight.iter().map(Sent::flight).collect())),
            Command::Progress(node) => Ok(self.progress(node)),
            Command::Expect(node, ref fields) => Ok(self.expect(node, fields)),
        }
    }

    /// Every node that a command names must be there, and `nodes` comes first, once.
    fn check_numbers(&self, command: &Command) -> Result<(), String> {
        let named = match *command {
            Command::Nodes { .. } if self.nodes.is_empty() => return Ok(()),
            Command::Nodes { .. } => return Err("there are nodes already: nodes comes once, first".to_owned()),
            Command::Fire(node, _)
            | Command::Elapse(_, Some(node))
            | Command::Propose(node, _)
            | Command::Read(node)
            | Command::HoldDisk(node)
            | Command::Sync(node)
            | Command::Crash(node)
            | Command::Restart(node, _)
            | Command::Wipe(node)
            | Command::Progress(node)
            | Command::Expect(node, _)
            | Command::Snapshot(node)
            | Command::Remove(node)
            | Command::State(Some(node)) => vec![node],
            Command::Isolate(ref nodes) => nodes.clone(),
            Command::Transfer(node, to) => vec![node, to],
            Command::Deliver(link, _, _)
            | Command::Drop(link, _, _)
            | Command::Dup(link)
            | Command::Reorder(link)
            | Command::Cut(link)
            | Command::Join(link) => vec![link.from, link.to],
            Command::Elapse(_, None)
            | Command::DeliverAll
            | Command::DropAll
            | Command::Heal
            | Command::Add(_, _)
            | Command::State(None)
            | Command::Pending => Vec::new(),
        };
        if self.nodes.is_empty() {
            return Err("there are no nodes yet: begin with nodes COUNT".to_owned());
        }
        match named.iter().find(|node| !self.nodes.contains_key(node)) {
            Some(node) => Err(format!("there is no node {node}: there are {:?}", self.numbers())),
            None => Ok(()),
        }
    }

    fn numbers(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    fn node(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(&node).expect("numbers are checked")
    }

    fn start(&mut self, node: usize) -> Result<(), String> {
        let (raft, data) = self.recover(node);
        let state = self.node(node);
        state.life += 1;
        state.applied = raft.last_applied();
        state.data = data;
        (state.shown, state.commit) = (raft.looks(number), raft.commit_index());
        state.host = Some(Host::new(raft, node as u64));
        let records = state.disk.len();
        self.trace.moment(self.now, || What::Started { node, records });
        self.step(node, Input::Started)
    }

    /// The machine and its application as they are on the disk.
    fn recover(&self, node: usize) -> (Raft, Vec<String>) {
        let config = self.config(node);
        let mut recovery = Recovery::new(config.initial.clone());
        let (mut parts, mut data) = (Vec::new(), Vec::new());
        for record in self.nodes[&node].disk.iter().cloned() {
            match recovery.push(record) {
                Recovered::Nothing => {}
                Recovered::Begun => parts.clear(),
                Recovered::Chunk(part) => parts.push(part),
                Recovered::Whole => data = decode(&parts),
            }
        }
        (Raft::recovered(config, recovery).expect("a disk has what became durable, from the beginning"), data)
    }

    /// A node that joins later knows of no members.
    fn config(&self, node: usize) -> Config {
        let Settings { pre_vote, check_quorum, max_append } = self.nodes[&node].settings;
        let voters = (1..=self.began).filter(|_| node <= self.began).map(NodeId::numbered);
        let usual = Config::new(NodeId::numbered(node), (self.nodes[&node].life + 1) << 32, voters);
        Config {
            pre_vote,
            check_quorum,
            max_append_bytes: max_append.unwrap_or(usual.max_append_bytes),
            retained_bytes: 0,    // a snapshot shortens the log at once
            apply_batch: 1 << 32, // a line is followed by all it leads to
            ..usual
        }
    }

    fn step(&mut self, node: usize, input: Input<Raft>) -> Result<(), String> {
        let state = self.node(node);
        let now = state.now;
        if let Some(host) = &mut state.host {
            host.step(now, input);
        }
        self.settle(node)
    }

    /// Does for a node what its driver does after each step, until there is nothing left.
    fn settle(&mut self, node: usize) -> Result<(), String> {
        let global = self.now;
        loop {
            let state = self.node(node);
            let (now, held) = (state.now, state.held);
            let Some(host) = &mut state.host else { return Ok(()) };
            if host.machine().last_applied() == state.applied {
                for (to, number) in state.wanted.drain(..) {
                    let data = encode(&state.data);
                    host.step(now, Input::Requested(raft::Command::OfferChunk { to, number, data, done: true }));
                }
            }
            host.fire_due(now);
            let batch = if held { None } else { host.take_batch(now) };
            if let Some(records) = &batch {
                host.batch_durable(now);
                state.disk.extend(records.iter().cloned());
            }
            let outputs: Vec<_> = std::iter::from_fn(|| host.next_output()).collect();
            if let Some(records) = &batch {
                self.trace.moment(global, || What::Persisted { node, records: records.len() });
                self.checker.on_durable(NodeId::numbered(node), records)?;
            } else if outputs.is_empty() {
                break;
            }
            self.show(node)?;
            for output in outputs {
                match output {
                    Output::Send { to, message } => self.send(Link { from: node, to: number(to) }, message),
                    Output::Emit(event) => self.told(node, event)?,
                }
            }
        }
        self.show(node)
    }

    fn told(&mut self, node: usize, event: Event) -> Result<(), String> {
        let state = self.nodes.get_mut(&node).expect("numbers are checked");
        match event {
            Event::Committed(entries) => {
                for entry in entries {
                    if let Payload::Command(command) = &entry.payload {
                        state.data.push(String::from_utf8_lossy(command).into_owned());
                    }
                    state.applied = entry.position.index;
                }
            }
            Event::Proposed { ticket, .. } | Event::SteppedDown { ticket } => {
                state.asked.remove(&ticket);
            }
            Event::ReadReady { tickets } => {
                for ticket in tickets {
                    if let Some(Asked::Read) = state.asked.remove(&ticket) {
                        let found = Some((state.applied.0, state.data.clone()));
                        self.latest_reads.insert(node, ReadAnswer { node, found: found.clone() });
                        self.answers.push(ReadAnswer { node, found });
                    }
                }
            }
            Event::Dropped { tickets } => {
                for ticket in tickets {
                    if let Some(Asked::Read) = state.asked.remove(&ticket) {
                        self.latest_reads.insert(node, ReadAnswer { node, found: None });
                        self.answers.push(ReadAnswer { node, found: None });
                    }
                }
            }
            Event::RoleChanged { role: RoleName::Leader, term, .. } => {
                let raft = state.host.as_ref().map(Host::machine);
                self.checker.on_leader(NodeId::numbered(node), term, raft)?;
            }
            Event::RoleChanged { .. } | Event::ConfigurationChanged(_) | Event::ChunksUnwanted { .. } => {}
            Event::Refused { ticket, why } => {
                state.asked.remove(&ticket);
                self.refused.insert(ticket, why);
            }
            Event::ChunkWanted { to, number } => state.wanted.push((to, number)),
            Event::Chunk { number, data } => {
                if number == 0 {
                    state.incoming.clear();
                }
                state.incoming.push(data);
            }
            Event::Restored { last } => {
                state.applied = last.index;
                state.data = decode(&std::mem::take(&mut state.incoming));
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, node: usize) -> Result<Answer, String> {
        if self.machine(node).is_none() {
            return Ok(is_down(node));
        }
        // What was applied is told when the disk has everything: until then the application is behind the machine.
        if self.nodes[&node].host.as_ref().is_some_and(|host| !host.is_settled()) {
            return Ok(not_now(format!("the disk of node {node} is held")));
        }
        let data = encode(&self.nodes[&node].data);
        for command in [raft::Command::BeginSnapshot, raft::Command::SnapshotChunk(data), raft::Command::EndSnapshot] {
            self.step(node, Input::Requested(command))?;
        }
        Ok(Answer::Done)
    }

    fn transfer(&mut self, node: usize, to: usize) -> Result<Answer, String> {
        if self.machine(node).is_none() {
            return Ok(is_down(node));
        }
        let ticket = self.ticket(node, Asked::Other);
        self.step(node, Input::Requested(raft::Command::Transfer { ticket, to: Some(NodeId::numbered(to)) }))?;
        Ok(self.refused.remove(&ticket).map_or(Answer::Done, |why| not_now(why.to_string())))
    }

    /// A new node starts without knowing of anybody; the leader finds it.
    fn add(&mut self, node: usize, settings: &[Setting]) -> Result<Answer, String> {
        let answer = self.change(Change::Add { node: NodeId::numbered(node), addr: String::new() })?;
        if matches!(answer, Answer::Proposed { .. }) && !self.nodes.contains_key(&node) {
            let settings = self.settings.with(settings.iter().copied());
            self.nodes.insert(node, Node::down(settings, self.now));
            self.start(node)?;
        }
        Ok(answer)
    }

    /// Asks the leader of the latest term.
    fn change(&mut self, change: Change) -> Result<Answer, String> {
        let leaders = self.numbers().into_iter().filter_map(|node| {
            let raft = self.machine(node).filter(|raft| raft.role() == RoleName::Leader)?;
            Some((raft.hard_state().current_term, node))
        });
        let Some((_, leader)) = leaders.max() else { return Ok(not_now("no node leads".to_owned())) };
        let ticket = self.ticket(leader, Asked::Other);
        self.step(leader, Input::Requested(raft::Command::Change { ticket, change }))?;
        if let Some(why) = self.refused.remove(&ticket) {
            return Ok(not_now(why.to_string()));
        }
        let place = self.machine(leader).expect("it is up").log().configuration_position();
        Ok(Answer::Proposed { index: place.index.0, term: place.term.0 })
    }

    fn fire(&mut self, node: usize, alarm: Alarm) -> Result<Answer, String> {
        let timer = match alarm {
            Alarm::Election => Timer::Election,
            Alarm::Heartbeat => Timer::Heartbeat,
        };
        let Some(host) = &mut self.node(node).host else { return Ok(is_down(node)) };
        if !host.stop_timer(timer) {
            return Ok(not_now(match alarm {
                Alarm::Election => format!("node {node} leads, or is no voter: it waits for no election"),
                Alarm::Heartbeat => format!("node {node} does not lead: it has no heartbeat"),
            }));
        }
        self.step(node, Input::Elapsed(timer))?;
        Ok(Answer::Done)
    }

    /// Timers run out in order; at the same time, in the order of the nodes.
    fn elapse(&mut self, time: Duration, nodes: &[usize]) -> Result<Answer, String> {
        let mut left = time;
        loop {
            let due = |node: &usize| {
                let state = &self.nodes[node];
                let deadline = state.host.as_ref()?.next_deadline()?;
                Some((deadline.since(state.now), *node))
            };
            let next = nodes.iter().filter_map(due).min().filter(|(after, _)| *after <= left);
            let pass = next.map_or(left, |(after, _)| after);
            left -= pass;
            for &node in nodes {
                let state = self.node(node);
                state.now = state.now + pass;
            }
            if nodes.len() == self.nodes.len() {
                self.now = self.now + pass;
            }
            let Some((_, node)) = next else { return Ok(Answer::Done) };
            self.trace.next_step();
            self.settle(node)?;
        }
    }

    fn ticket(&mut self, node: usize, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.node(node).asked.insert(ticket, asked);
        ticket
    }

    /// The place in the leader's log is known at once, even when its disk is held.
    fn propose(&mut self, node: usize, text: &str) -> Result<Answer, String> {
        let Some(raft) = self.machine(node) else { return Ok(is_down(node)) };
        if raft.role() != RoleName::Leader {
            return Ok(Answer::Refused(Refusal::NotLeader { leader: raft.leader().map(number) }));
        }
        let ticket = self.ticket(node, Asked::Other);
        let command = Bytes::copy_from_slice(text.as_bytes());
        self.step(node, Input::Requested(raft::Command::Propose { ticket, command }))?;
        let raft = self.machine(node).expect("it is up");
        let place = raft.log().last();
        Ok(Answer::Proposed { index: place.index.0, term: place.term.0 })
    }

    fn read(&mut self, node: usize) -> Result<Answer, String> {
        if self.machine(node).is_none() {
            return Ok(is_down(node));
        }
        self.latest_reads.remove(&node);
        let ticket = self.ticket(node, Asked::Read);
        self.step(node, Input::Requested(raft::Command::Read { ticket }))?;
        Ok(Answer::Asked)
    }

    fn machine(&self, node: usize) -> Option<&Raft> {
        self.nodes[&node].host.as_ref().map(Host::machine)
    }

    /// With the machine goes all that it had not made durable. The application starts again from nothing.
    fn crash(&mut self, node: usize) -> Answer {
        let state = self.node(node);
        if state.host.is_none() {
            return is_down(node);
        }
        *state = Node {
            disk: std::mem::take(&mut state.disk),
            life: state.life,
            held: state.held,
            shown_log: std::mem::take(&mut state.shown_log),
            ..Node::down(state.settings, state.now)
        };
        self.checker.on_restart(NodeId::numbered(node));
        self.trace.moment(self.now, || What::Crashed { node });
        Answer::Done
    }

    /// With its disk a node forgets whom it voted for and what it acknowledged, and nothing here keeps it from voting again.
    fn wipe(&mut self, node: usize) -> Result<Answer, String> {
        if self.machine(node).is_some() {
            self.crash(node);
        }
        let state = self.node(node);
        (state.disk, state.held) = (Vec::new(), false);
        self.checker.on_wiped(NodeId::numbered(node));
        self.trace.moment(self.now, || What::Wiped { node });
        self.start(node)?;
        Ok(Answer::Done)
    }

    fn check(&self) -> Result<(), String> {
        let machines = || self.nodes.keys().filter_map(|node| self.machine(*node));
        invariants::election_safety(machines())?;
        let settled = || {
            let hosts = self.nodes.values().filter_map(|node| node.host.as_ref());
            hosts.filter(|host| host.is_settled()).map(Host::machine)
        };
        for a in settled() {
            for b in settled() {
                invariants::log_matching(a, b)?;
                invariants::committed_agree(a, b)?;
                invariants::leader_completeness(a, b)?;
            }
        }
        Ok(())
    }
}

impl Node {
    fn down(settings: Settings, now: Time) -> Self {
        Self {
            settings,
            host: None,
            disk: Vec::new(),
            held: false,
            now,
            life: 0,
            shown: Vec::new(),
            commit: Index(0),
            shown_log: (1, Vec::new()),
            applied: Index(0),
            data: Vec::new(),
            incoming: Vec::new(),
            wanted: Vec::new(),
            asked: BTreeMap::new(),
        }
    }
}

/// A snapshot of the application: its list.
fn encode(data: &[String]) -> Bytes {
    serde_json::to_vec(data).expect("texts are JSON").into()
}

fn decode(parts: &[Bytes]) -> Vec<String> {
    serde_json::from_slice(&parts.concat()).expect("the parts are those that were made")
}

/// The N of `nN`.
fn number(node: NodeId) -> usize {
    node.as_str().strip_prefix('n').and_then(|number| number.parse().ok()).expect("simulated nodes are numbered")
}

fn is_down(node: usize) -> Answer {
    not_now(format!("node {node} is down"))
}

const fn not_now(why: String) -> Answer {
    Answer::Refused(Refusal::NotNow(why))
}
