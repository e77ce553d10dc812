//! All nodes of a script, and what happens among them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::answer::{Answer, ReadAnswer, is_down};
use super::command::Link;
use super::network::Network;
use super::node::{Asked, Node, Settings, decode, encode, number};
use super::recorder::Recorder;
use crate::host::{Host, Output};
use crate::node_id::NodeId;
use crate::protocol::{Input, Time};
use crate::raft::{self, Config, Event, Index, Payload, Raft, Recovered, Recovery, RoleName, Ticket, invariants};
use crate::sim::observe::{Look, Observable, changed, facts};
use crate::sim::raft::checker::Checker;
use crate::sim::raft::observe::EntryLabel;
use crate::sim::trace::{Keep, Loss, Trace, What};

/// A cluster that does nothing by chance.
pub(super) struct Nodes {
    pub(super) nodes: BTreeMap<usize, Node>,
    /// How a node is set up that is not told otherwise.
    pub(super) settings: Settings,
    /// How many nodes there were in the beginning.
    pub(super) began: usize,
    pub(super) network: Network,
    pub(super) recorder: Recorder,
    checker: Checker,
    next_ticket: u64,
    /// The reads that were answered and nobody has taken yet.
    pub(super) answers: Vec<ReadAnswer>,
    /// What each node's latest read came to.
    pub(super) latest_reads: BTreeMap<usize, ReadAnswer>,
    pub(super) refused: BTreeMap<Ticket, raft::Refusal>,
}

impl Nodes {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            nodes: BTreeMap::new(),
            settings: Settings { pre_vote: true, check_quorum: true, max_append: None },
            began: 0,
            network: Network::default(),
            recorder: Recorder { trace: Trace::new(keep), now: Time::ZERO },
            checker: Checker::default(),
            next_ticket: 0,
            answers: Vec::new(),
            latest_reads: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    pub(super) fn numbers(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn node(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(&node).expect("numbers are checked")
    }

    /// Another node, which starts.
    pub(super) fn insert(&mut self, node: usize, settings: Settings) -> Result<(), String> {
        self.nodes.insert(node, Node::down(settings, self.recorder.now));
        self.start(node)
    }

    /// Cuts all links between these nodes and the others.
    pub(super) fn isolate(&mut self, nodes: &[usize]) {
        for &node in nodes {
            for other in self.numbers().into_iter().filter(|other| !nodes.contains(other)) {
                self.network.cut([Link { from: node, to: other }, Link { from: other, to: node }], &mut self.recorder);
            }
        }
    }

    pub(super) fn start(&mut self, node: usize) -> Result<(), String> {
        let (raft, data) = self.recover(node);
        let state = self.node(node);
        state.boot += 1;
        state.applied = raft.last_applied();
        state.data = data;
        (state.shown, state.commit) = (raft.looks(number), raft.commit_index());
        state.host = Some(Host::new(raft, node as u64));
        let records = state.disk.len();
        self.recorder.note(|| What::Started { node, records });
        self.step(node, Input::Started)
    }

    /// The machine and its application as they are on the disk.
    pub(super) fn recover(&self, node: usize) -> (Raft, Vec<String>) {
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
        let usual = Config::new(NodeId::numbered(node), (self.nodes[&node].boot + 1) << 32, voters);
        Config {
            pre_vote,
            check_quorum,
            max_append_bytes: max_append.unwrap_or(usual.max_append_bytes),
            retained_bytes: 0,    // a snapshot shortens the log at once
            apply_batch: 1 << 32, // a line is followed by all it leads to
            ..usual
        }
    }

    pub(super) fn step(&mut self, node: usize, input: Input<Raft>) -> Result<(), String> {
        let state = self.node(node);
        let now = state.now;
        if let Some(host) = &mut state.host {
            host.step(now, input);
        }
        self.settle(node)
    }

    /// Does for a node what its driver does after each step, until there is nothing left.
    pub(super) fn settle(&mut self, node: usize) -> Result<(), String> {
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
                self.recorder.note(|| What::Persisted { node, records: records.len() });
                self.checker.on_durable(NodeId::numbered(node), records)?;
            } else if outputs.is_empty() {
                break;
            }
            self.show(node)?;
            for output in outputs {
                match output {
                    Output::Send { to, message } => {
                        self.network.send(Link { from: node, to: number(to) }, message, &mut self.recorder);
                    }
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

    /// What a node with a busy disk believes is nobody's business yet.
    fn show(&mut self, node: usize) -> Result<(), String> {
        let state = self.nodes.get_mut(&node).expect("numbers are checked");
        let Some(host) = state.host.as_ref().filter(|host| host.is_settled()) else { return Ok(()) };
        if self.recorder.trace.keeps_moments() {
            let log = host.machine().log();
            let (first, last) = (log.first_index(), log.last().index);
            // Equal terms at an index mean equal logs up to there (Raft §5.3, Log Matching).
            let (had_first, had) = &mut state.shown_log;
            let same = |index: &u64| {
                let place = index.checked_sub(*had_first).and_then(|place| had.get(place as usize));
                place.copied() == log.position(Index(*index)).map(|at| at.term.0)
            };
            let keep = (first.0..=last.0).rev().find(same).unwrap_or(first.0 - 1);
            let kept = (keep + 1).saturating_sub(*had_first) as usize;
            if first.0 != *had_first || kept != had.len() || keep != last.0 {
                let entries: Vec<_> = log.between(Index(keep), last).iter().map(EntryLabel::new).collect();
                let all = log.between(first.prev(), last);
                state.shown_log = (first.0, all.iter().map(|entry| entry.position.term.0).collect());
                let log = facts([("first", json!(first.0)), ("keep", json!(keep)), ("entries", json!(entries))]);
                self.recorder.note(|| What::Changed { node, look: Look::new("log", log) });
            }
        }
        let machine = host.machine();
        let looks = machine.looks(number);
        for look in changed(&state.shown, &looks) {
            self.recorder.note(|| What::Changed { node, look: look.clone() });
        }
        state.shown = looks;
        if state.commit != machine.commit_index() {
            state.commit = machine.commit_index();
            self.checker.on_commit(NodeId::numbered(node), machine)?;
        }
        Ok(())
    }

    pub(super) fn machine(&self, node: usize) -> Option<&Raft> {
        self.nodes[&node].host.as_ref().map(Host::machine)
    }

    /// Delivers up to `most` messages, of one link or of all, of one kind or of all, and says how many.
    pub(super) fn deliver(&mut self, link: Option<Link>, kind: Option<&str>, most: usize) -> Result<usize, String> {
        for delivered in 0..most {
            let Some(sent) = self.network.take(link, kind) else { return Ok(delivered) };
            self.recorder.trace.next_step();
            let Link { from, to } = sent.link;
            if self.network.is_cut(sent.link) {
                self.recorder.note(|| What::Lost(sent.flight(), Loss::Cut));
            } else if self.machine(to).is_none() {
                self.recorder.note(|| What::Lost(sent.flight(), Loss::Down));
            } else {
                self.recorder.note(|| What::Delivered(sent.flight()));
                self.step(to, Input::Received { from: NodeId::numbered(from), message: sent.message })?;
            }
        }
        Ok(most)
    }

    /// With the machine goes all that it had not made durable. The application starts again from nothing.
    pub(super) fn crash(&mut self, node: usize) -> Answer {
        let state = self.node(node);
        if state.host.is_none() {
            return is_down(node);
        }
        *state = Node {
            disk: std::mem::take(&mut state.disk),
            boot: state.boot,
            held: state.held,
            shown_log: std::mem::take(&mut state.shown_log),
            ..Node::down(state.settings, state.now)
        };
        self.checker.on_restart(NodeId::numbered(node));
        self.recorder.note(|| What::Crashed { node });
        Answer::Done
    }

    /// With its disk a node forgets whom it voted for and what it acknowledged, and nothing here keeps it from voting again.
    pub(super) fn wipe(&mut self, node: usize) -> Result<Answer, String> {
        if self.machine(node).is_some() {
            self.crash(node);
        }
        let state = self.node(node);
        (state.disk, state.held) = (Vec::new(), false);
        self.checker.on_wiped(NodeId::numbered(node));
        self.recorder.note(|| What::Wiped { node });
        self.start(node)?;
        Ok(Answer::Done)
    }

    /// Timers run out in order; at the same time, in the order of the nodes.
    pub(super) fn elapse(&mut self, time: Duration, nodes: &[usize]) -> Result<Answer, String> {
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
                self.recorder.now = self.recorder.now + pass;
            }
            let Some((_, node)) = next else { return Ok(Answer::Done) };
            self.recorder.trace.next_step();
            self.settle(node)?;
        }
    }

    pub(super) fn ticket(&mut self, node: usize, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.node(node).asked.insert(ticket, asked);
        ticket
    }

    pub(super) fn check(&self) -> Result<(), String> {
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
