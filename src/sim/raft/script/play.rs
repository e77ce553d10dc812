//! Does what a script says, a command at a time.

use bytes::Bytes;

use super::answer::{Answer, ReadAnswer, Refusal, Violation, is_down, not_now};
use super::command::{Alarm, Command, Setting};
use super::network::Sent;
use super::node::{Asked, encode, number};
use super::nodes::Nodes;
use crate::node_id::NodeId;
use crate::protocol::Input;
use crate::raft::{self, Change, RoleName, Timer};
use crate::sim::scenario::outlive;
use crate::sim::trace::{Keep, Moment, What};

/// Correct nodes fall silent long before: while no timer runs out, each message is answered, and each answer brings a
/// follower further.
const MOST_DELIVERIES: usize = 100_000;

/// A cluster on a script's strings.
pub struct Script {
    nodes: Nodes,
}

impl Script {
    /// A world without nodes: `nodes` makes them.
    pub fn new(keep: Keep) -> Self {
        Self { nodes: Nodes::new(keep) }
    }

    /// Does what a line says, and checks the invariants.
    ///
    /// # Errors
    /// When one does not hold.
    pub fn run(&mut self, line: usize, text: &str, command: &Command) -> Result<Answer, Violation> {
        // To look at the nodes is no step.
        if !matches!(command, Command::State(_) | Command::Pending | Command::Progress(_) | Command::Expect(..)) {
            self.nodes.recorder.trace.next_step();
        }
        self.nodes.recorder.note(|| What::Line { number: line, text: text.to_owned() });
        outlive(|| self.obey(command)).and_then(|answer| self.nodes.check().map(|()| answer)).map_err(Violation)
    }

    /// The reads that were answered since this was last asked.
    pub fn take_reads(&mut self) -> Vec<ReadAnswer> {
        std::mem::take(&mut self.nodes.answers)
    }

    /// The moments since this was last asked, when they are kept.
    pub fn take_moments(&mut self) -> Vec<Moment> {
        self.nodes.recorder.trace.take_moments()
    }

    /// The highest number of a node.
    pub fn most_nodes(&self) -> usize {
        self.nodes.nodes.keys().max().copied().unwrap_or_default()
    }

    /// How many messages are in flight.
    pub fn in_flight(&self) -> usize {
        self.nodes.network.in_flight().len()
    }

    fn obey(&mut self, command: &Command) -> Result<Answer, String> {
        if let Err(mistake) = self.check_numbers(command) {
            return Ok(Answer::Refused(Refusal::Mistake(mistake)));
        }
        let Nodes { network, recorder, .. } = &mut self.nodes;
        match *command {
            Command::Nodes { count, ref settings } => {
                let of =
                    |of: Option<usize>| settings.iter().filter(move |(node, _)| *node == of).map(|(_, what)| *what);
                self.nodes.settings = self.nodes.settings.with(of(None));
                self.nodes.began = count;
                for node in 1..=count {
                    let settings = self.nodes.settings.with(of(Some(node)));
                    self.nodes.insert(node, settings)?;
                }
                Ok(Answer::Done)
            }
            Command::Fire(node, alarm) => self.fire(node, alarm),
            Command::Elapse(time, None) => {
                let all = self.nodes.numbers();
                self.nodes.elapse(time, &all)
            }
            Command::Elapse(time, Some(node)) => self.nodes.elapse(time, &[node]),
            Command::Propose(node, ref text) => self.propose(node, text),
            Command::Read(node) => self.read(node),
            Command::Deliver(link, kind, count) => self.nodes.deliver(Some(link), kind, count).map(Answer::Moved),
            Command::DeliverAll => {
                let delivered = self.nodes.deliver(None, None, MOST_DELIVERIES)?;
                if self.nodes.network.in_flight().is_empty() {
                    return Ok(Answer::Moved(delivered));
                }
                Err(format!("the nodes do not fall silent: {MOST_DELIVERIES} messages were delivered in one line"))
            }
            Command::Drop(link, kind, count) => Ok(Answer::Moved(network.lose(Some(link), kind, count, recorder))),
            Command::DropAll => Ok(Answer::Moved(network.lose(None, None, usize::MAX, recorder))),
            Command::Dup(link) => Ok(Answer::Moved(network.duplicate(link, recorder))),
            Command::Reorder(link) => Ok(Answer::Moved(network.reorder(link))),
            Command::Cut(link) => {
                network.cut([link], recorder);
                Ok(Answer::Done)
            }
            Command::Join(link) => {
                network.join([link], recorder);
                Ok(Answer::Done)
            }
            Command::Isolate(ref nodes) => {
                self.nodes.isolate(nodes);
                Ok(Answer::Done)
            }
            Command::Heal => {
                network.join(network.cuts().clone(), recorder);
                Ok(Answer::Done)
            }
            Command::HoldDisk(node) => {
                self.nodes.node(node).held = true;
                Ok(Answer::Done)
            }
            Command::Sync(node) => {
                self.nodes.node(node).held = false;
                self.nodes.settle(node)?;
                Ok(Answer::Done)
            }
            Command::Crash(node) => Ok(self.nodes.crash(node)),
            Command::Restart(node, ref settings) => {
                let state = self.nodes.node(node);
                if state.host.is_some() {
                    return Ok(not_now(format!("node {node} is up")));
                }
                state.settings = state.settings.with(settings.iter().copied());
                self.nodes.start(node)?;
                Ok(Answer::Done)
            }
            Command::Wipe(node) => self.nodes.wipe(node),
            Command::Snapshot(node) => self.snapshot(node),
            Command::Transfer(node, to) => self.transfer(node, to),
            Command::Add(node, ref settings) => self.add(node, settings),
            Command::Remove(node) => self.change(Change::Remove { node: NodeId::numbered(node) }),
            Command::State(None) => {
                Ok(Answer::States(self.nodes.nodes.keys().map(|node| self.nodes.state(*node)).collect()))
            }
            Command::State(Some(node)) => Ok(Answer::States(vec![self.nodes.state(node)])),
            Command::Pending => Ok(Answer::Pending(self.nodes.network.in_flight().iter().map(Sent::flight).collect())),
            Command::Progress(node) => Ok(self.nodes.progress(node)),
            Command::Expect(node, ref fields) => Ok(self.nodes.expect(node, fields)),
        }
    }

    /// Every node that a command names must be there, and `nodes` comes first, once.
    fn check_numbers(&self, command: &Command) -> Result<(), String> {
        let named = match *command {
            Command::Nodes { .. } if self.nodes.nodes.is_empty() => return Ok(()),
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
        if self.nodes.nodes.is_empty() {
            return Err("there are no nodes yet: begin with nodes COUNT".to_owned());
        }
        match named.iter().find(|node| !self.nodes.nodes.contains_key(node)) {
            Some(node) => Err(format!("there is no node {node}: there are {:?}", self.nodes.numbers())),
            None => Ok(()),
        }
    }

    /// The place in the leader's log is known at once, even when its disk is held.
    fn propose(&mut self, node: usize, text: &str) -> Result<Answer, String> {
        let Some(raft) = self.nodes.machine(node) else { return Ok(is_down(node)) };
        if raft.role() != RoleName::Leader {
            return Ok(Answer::Refused(Refusal::NotLeader { leader: raft.leader().map(number) }));
        }
        let ticket = self.nodes.ticket(node, Asked::Other);
        let command = Bytes::copy_from_slice(text.as_bytes());
        self.nodes.step(node, Input::Requested(raft::Command::Propose { ticket, command }))?;
        let raft = self.nodes.machine(node).expect("it is up");
        let place = raft.log().last();
        Ok(Answer::Proposed { index: place.index.0, term: place.term.0 })
    }

    fn read(&mut self, node: usize) -> Result<Answer, String> {
        if self.nodes.machine(node).is_none() {
            return Ok(is_down(node));
        }
        self.nodes.latest_reads.remove(&node);
        let ticket = self.nodes.ticket(node, Asked::Read);
        self.nodes.step(node, Input::Requested(raft::Command::Read { ticket }))?;
        Ok(Answer::Asked)
    }

    fn snapshot(&mut self, node: usize) -> Result<Answer, String> {
        if self.nodes.machine(node).is_none() {
            return Ok(is_down(node));
        }
        // What was applied is told when the disk has everything: until then the application is behind the machine.
        if self.nodes.nodes[&node].host.as_ref().is_some_and(|host| !host.is_settled()) {
            return Ok(not_now(format!("the disk of node {node} is held")));
        }
        let data = encode(&self.nodes.nodes[&node].data);
        for command in [raft::Command::BeginSnapshot, raft::Command::SnapshotChunk(data), raft::Command::EndSnapshot] {
            self.nodes.step(node, Input::Requested(command))?;
        }
        Ok(Answer::Done)
    }

    fn transfer(&mut self, node: usize, to: usize) -> Result<Answer, String> {
        if self.nodes.machine(node).is_none() {
            return Ok(is_down(node));
        }
        let ticket = self.nodes.ticket(node, Asked::Other);
        self.nodes.step(node, Input::Requested(raft::Command::Transfer { ticket, to: Some(NodeId::numbered(to)) }))?;
        Ok(self.nodes.refused.remove(&ticket).map_or(Answer::Done, |why| not_now(why.to_string())))
    }

    /// A new node starts without knowing of anybody; the leader finds it.
    fn add(&mut self, node: usize, settings: &[Setting]) -> Result<Answer, String> {
        let answer = self.change(Change::Add { node: NodeId::numbered(node), addr: String::new() })?;
        if matches!(answer, Answer::Proposed { .. }) && !self.nodes.nodes.contains_key(&node) {
            let settings = self.nodes.settings.with(settings.iter().copied());
            self.nodes.insert(node, settings)?;
        }
        Ok(answer)
    }

    /// Asks the leader of the latest term.
    fn change(&mut self, change: Change) -> Result<Answer, String> {
        let leaders = self.nodes.numbers().into_iter().filter_map(|node| {
            let raft = self.nodes.machine(node).filter(|raft| raft.role() == RoleName::Leader)?;
            Some((raft.hard_state().current_term, node))
        });
        let Some((_, leader)) = leaders.max() else { return Ok(not_now("no node leads".to_owned())) };
        let ticket = self.nodes.ticket(leader, Asked::Other);
        self.nodes.step(leader, Input::Requested(raft::Command::Change { ticket, change }))?;
        if let Some(why) = self.nodes.refused.remove(&ticket) {
            return Ok(not_now(why.to_string()));
        }
        let place = self.nodes.machine(leader).expect("it is up").log().configuration_position();
        Ok(Answer::Proposed { index: place.index.0, term: place.term.0 })
    }

    fn fire(&mut self, node: usize, alarm: Alarm) -> Result<Answer, String> {
        let timer = match alarm {
            Alarm::Election => Timer::Election,
            Alarm::Heartbeat => Timer::Heartbeat,
        };
        let Some(host) = &mut self.nodes.node(node).host else { return Ok(is_down(node)) };
        if !host.stop_timer(timer) {
            return Ok(not_now(match alarm {
                Alarm::Election => format!("node {node} leads, or is no voter: it waits for no election"),
                Alarm::Heartbeat => format!("node {node} does not lead: it has no heartbeat"),
            }));
        }
        self.nodes.step(node, Input::Elapsed(timer))?;
        Ok(Answer::Done)
    }
}
