//! Raft and the store as one protocol machine.
//!
//! A request has a deadline and goes through stages. It waits until a leader is known; a read is then served by
//! Raft's read index on this node; a write is proposed, or forwarded to the leader, once. A request that may
//! have taken effect is never tried again: when its outcome stays unknown, the answer says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::command::{self, Outcome, Versioned};
use super::store::{Page, Store};
use crate::defaults::MAX_REQUESTS;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};
use crate::raft::{self, Entry, Index, NodeId, Payload, Position, Raft, RoleName, Term, Ticket};

/// The application's name for a request. A node never uses one twice, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request.
#[derive(Debug)]
pub struct Command {
    /// Its name; [`Event::Answered`] repeats it.
    pub id: RequestId,
    /// What is asked.
    pub ask: Ask,
    /// How long to try.
    pub timeout: Duration,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Change the store: an encoded [`command::Command`].
    Write(Bytes),
    /// Read the store, linearizably: the read sees every write that was acknowledged before it was asked.
    Read(Query),
    /// Read this node's store as it is, which may be out of date.
    ReadStale(Query),
}

/// A read.
#[derive(Clone, Debug)]
pub enum Query {
    /// One key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Keys in order.
    List {
        /// That begin with this.
        prefix: Bytes,
        /// That come after this.
        after: Option<Bytes>,
        /// At most so many.
        limit: usize,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The write is committed and applied.
    Written(Outcome),
    /// The key's value.
    Value(Option<Versioned>),
    /// A page of keys.
    Page(Page),
    /// There was no leader in time; nothing was done.
    NoLeader,
    /// The write was handed over and its outcome did not come back: it may or may not take effect.
    OutcomeUnknown,
    /// This node or the leader has too much to do; nothing was done.
    Overloaded,
}

/// What the application is told.
#[derive(Debug)]
pub enum Event {
    /// The answer to a request; each request gets one.
    Answered {
        /// The request.
        id: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The role, the term or the known leader changed.
    RoleChanged {
        /// The role now.
        role: RoleName,
        /// The term now.
        term: Term,
        /// The leader, when it is known.
        leader: Option<NodeId>,
    },
}

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Raft's own.
    Raft(raft::Message),
    /// A follower hands a write to the leader of `term`.
    Forward {
        /// The follower's name for it.
        id: RequestId,
        /// The term in which the receiver leads.
        term: Term,
        /// The encoded command.
        command: Bytes,
    },
    /// The leader answers [`Message::Forward`].
    Forwarded {
        /// The follower's name for it.
        id: RequestId,
        /// The term that the forwarded message named.
        term: Term,
        /// What became of it.
        result: Forwarding,
    },
}

/// What became of a forwarded write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Committed and applied.
    Applied(Outcome),
    /// The receiver does not lead that term, or lost it before the write was committed: it is not done, and
    /// never will be.
    NotLeader,
    /// The leader has too much to do; it is not done.
    Overloaded,
}

/// The machine's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// One of Raft's.
    Raft(raft::Timer),
    /// The earliest deadline of a request.
    Deadline,
}

/// What happened since the start, for operators.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Writes proposed on this node, forwarded ones included.
    pub proposals: u64,
    /// Reads asked of this node.
    pub reads: u64,
    /// Writes this node forwarded to the leader.
    pub forwarded: u64,
}

/// A Raft node with its store.
#[derive(Debug)]
pub struct RaftKv {
    raft: Raft,
    store: Store,
    requests: BTreeMap<RequestId, Request>,
    /// Raft's tickets in use, and for whom. A write keeps its ticket until it has a place in the log.
    tickets: BTreeMap<Ticket, Origin>,
    next_ticket: u64,
    /// Writes of this node's leadership that have a place in the log, until that index is committed.
    proposed: BTreeMap<Index, (Position, Origin)>,
    forwards: ForwardsSeen,
    /// When the timer rings.
    deadline_timer: Option<Time>,
    raft_effects: Effects<Raft>,
    counters: Counters,
}

#[derive(Debug)]
struct Request {
    ask: Ask,
    deadline: Time,
    stage: Stage,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a leader of a term after this one, if it names one.
    Waiting { after: Option<Term> },
    /// Raft works on it; it has no place in the log.
    InRaft,
    /// It has a place in the log.
    Proposed,
    /// Handed to the leader of that term.
    Forwarded(Term),
}

/// Who wants an answer.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Local(RequestId),
    Peer { node: NodeId, id: RequestId, term: Term },
}

impl RaftKv {
    /// A node with the log that `raft` recovered; its store fills as entries are committed.
    pub fn new(raft: Raft) -> Self {
        Self {
            forwards: ForwardsSeen::since(raft.hard_state().current_term),
            raft,
            store: Store::default(),
            requests: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            proposed: BTreeMap::new(),
            deadline_timer: None,
            raft_effects: Effects::new(),
            counters: Counters::default(),
        }
    }

    /// The Raft node.
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The store, as far as it has been applied.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// What happened since the start.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Requests in hand.
    pub fn requests_in_hand(&self) -> usize {
        self.requests.len()
    }

    /// Steps Raft, and carries its effects over in their order.
    fn step_raft(&mut self, now: Time, input: Input<Raft>, out: &mut Effects<Self>) {
        let mut effects = std::mem::take(&mut self.raft_effects);
        self.raft.step(now, input, &mut effects);
        let mut resume = false;
        for effect in effects.drain() {
            match effect {
                Effect::Persist(record) => out.persist(record),
                Effect::Send { to, message } => out.send(to, Message::Raft(message)),
                Effect::SetTimer(timer, length) => out.set_timer(Timer::Raft(timer), length),
                Effect::CancelTimer(timer) => out.cancel_timer(Timer::Raft(timer)),
                Effect::Emit(raft::Event::Committed(entries)) => self.apply(entries, out),
                Effect::Emit(raft::Event::Proposed { ticket, position }) => self.on_proposed(ticket, position, out),
                Effect::Emit(raft::Event::ReadReady { tickets }) => self.serve_reads(&tickets, out),
                Effect::Emit(raft::Event::Dropped { tickets }) => self.on_dropped(&tickets, out),
                Effect::Emit(
                    raft::Event::Refused { .. }
                    | raft::Event::ConfigurationChanged(_)
                    | raft::Event::ChunkWanted { .. }
                    | raft::Event::ChunksUnwanted { .. }
                    | raft::Event::Chunk { .. }
                    | raft::Event::Restored { .. },
                ) => {}
                Effect::Emit(raft::Event::RoleChanged { role, term, leader }) => {
                    out.emit(Event::RoleChanged { role, term, leader });
                    self.give_up_forwarded(term, leader, out);
                    resume |= leader.is_some();
                }
            }
        }
        self.raft_effects = effects;
        if resume {
            self.submit_waiting(now, out);
        }
    }

    fn on_request(&mut self, now: Time, command: Command, out: &mut Effects<Self>) {
        let Command { id, ask, timeout } = command;
        if self.is_overloaded() {
            return out.emit(Event::Answered { id, answer: Answer::Overloaded });
        }
        match &ask {
            Ask::ReadStale(query) => {
                self.counters.reads += 1;
                return out.emit(Event::Answered { id, answer: self.query(query) });
            }
            Ask::Read(_) => self.counters.reads += 1,
            Ask::Write(_) => {}
        }
        let deadline = now + timeout;
        self.requests.insert(id, Request { ask, deadline, stage: Stage::Waiting { after: None } });
        if self.deadline_timer.is_none_or(|at| deadline < at) {
            self.deadline_timer = Some(deadline);
            out.set_timer(Timer::Deadline, timeout..=timeout);
        }
        self.submit(now, id, out);
    }

    /// What Raft still has in hand counts, too, although whoever asked for it may have gone.
    fn is_overloaded(&self) -> bool {
        self.requests.len().max(self.tickets.len() + self.proposed.len()) >= MAX_REQUESTS
    }

    /// Takes a waiting request one step further, if the leader it waits for is known.
    fn submit(&mut self, now: Time, id: RequestId, out: &mut Effects<Self>) {
        let term = self.raft.hard_state().current_term;
        let Some(leader) = self.raft.leader() else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !matches!(request.stage, Stage::Waiting { after } if after.is_none_or(|after| term > after)) {
            return;
        }
        match &request.ask {
            Ask::Write(command) if leader != self.raft.config().id => {
                request.stage = Stage::Forwarded(term);
                self.counters.forwarded += 1;
                out.send(leader, Message::Forward { id, term, command: command.clone() });
            }
            Ask::Write(command) => {
                request.stage = Stage::InRaft;
                let command = command.clone();
                self.propose(now, Origin::Local(id), command, out);
            }
            Ask::Read(_) | Ask::ReadStale(_) => {
                request.stage = Stage::InRaft;
                let ticket = self.take_ticket(Origin::Local(id));
                self.step_raft(now, Input::Requested(raft::Command::Read { ticket }), out);
            }
        }
    }

    fn submit_waiting(&mut self, now: Time, out: &mut Effects<Self>) {
        let waiting = self.requests.iter().filter(|(_, request)| matches!(request.stage, Stage::Waiting { .. }));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.submit(now, id, out);
        }
    }

    fn propose(&mut self, now: Time, origin: Origin, command: Bytes, out: &mut Effects<Self>) {
        self.counters.proposals += 1;
        let ticket = self.take_ticket(origin);
        self.step_raft(now, Input::Requested(raft::Command::Propose { ticket, command }), out);
    }

    fn take_ticket(&mut self, origin: Origin) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, origin);
        ticket
    }

    /// A follower hands over a write. Messages may be repeated, and the follower takes a refusal as final: what may have
    /// been taken before is neither taken nor refused again.
    fn on_forward(
        &mut self,
        now: Time,
        node: NodeId,
        id: RequestId,
        term: Term,
        command: Bytes,
        out: &mut Effects<Self>,
    ) {
        if self.forwards.may_have_taken(term, node, id) || command::Command::decode(command.clone()).is_err() {
            return; // the latter no correct node forwards, and it must not reach the log
        }
        let leads = self.raft.role() == RoleName::Leader && self.raft.hard_state().current_term == term;
        let result = if !leads {
            Forwarding::NotLeader
        } else {
            self.forwards.take(term, node, id); // a repetition is not taken after this copy was refused, either
            if !self.is_overloaded() {
                return self.propose(now, Origin::Peer { node, id, term }, command, out);
            }
            Forwarding::Overloaded
        };
        out.send(node, Message::Forwarded { id, term, result });
    }

    /// The leader answers. An answer in another term than the request's is a late one.
    fn on_forwarded(&mut self, now: Time, id: RequestId, term: Term, result: Forwarding, out: &mut Effects<Self>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.stage != Stage::Forwarded(term) {
            return;
        }
        match result {
            Forwarding::Applied(outcome) => self.answer(id, Answer::Written(outcome), out),
            Forwarding::Overloaded => self.answer(id, Answer::Overloaded, out),
            Forwarding::NotLeader => {
                request.stage = Stage::Waiting { after: Some(term) };
                self.submit(now, id, out);
            }
        }
    }

    fn on_proposed(&mut self, ticket: Ticket, position: Position, out: &mut Effects<Self>) {
        let origin = self.tickets.remove(&ticket).expect("Raft answers each ticket once");
        if let Origin::Local(id) = origin
            && let Some(request) = self.requests.get_mut(&id)
        {
            request.stage = Stage::Proposed;
        }
        // A proposal of an earlier leadership that had this index was cut from this log. It may live on in
        // another one and be committed yet: its origin is left without an answer.
        if let Some((_, Origin::Local(id))) = self.proposed.insert(position.index, (position, origin)) {
            self.answer(id, Answer::OutcomeUnknown, out);
        }
    }

    fn apply(&mut self, entries: Vec<Entry>, out: &mut Effects<Self>) {
        for entry in entries {
            let outcome = match entry.payload {
                Payload::Noop | Payload::Configuration(_) => None,
                Payload::Command(bytes) => {
                    // Leaders decode before they propose: what cannot be decoded here was written by a newer
                    // netbelt, and skipping it would make this store differ from the others.
                    let command = command::Command::decode(bytes);
                    Some(self.store.apply(command.unwrap_or_else(|e| panic!("cannot apply {:?}: {e}", entry.position))))
                }
            };
            let Some((position, origin)) = self.proposed.remove(&entry.position.index) else { continue };
            match (position == entry.position, outcome, origin) {
                (true, Some(outcome), Origin::Local(id)) => self.answer(id, Answer::Written(outcome), out),
                (true, Some(outcome), Origin::Peer { node, id, term }) => {
                    out.send(node, Message::Forwarded { id, term, result: Forwarding::Applied(outcome) });
                }
                // Another leader's entry has the place: ours is lost, for certain.
                (_, _, origin) => self.on_lost(origin, out),
            }
        }
    }

    fn serve_reads(&mut self, tickets: &[Ticket], out: &mut Effects<Self>) {
        for ticket in tickets {
            let Some(Origin::Local(id)) = self.tickets.remove(ticket) else { continue };
            let Some(Request { ask: Ask::Read(query), .. }) = self.requests.get(&id) else { continue };
            let answer = self.query(query);
            self.answer(id, answer, out);
        }
    }

    fn on_dropped(&mut self, tickets: &[Ticket], out: &mut Effects<Self>) {
        for ticket in tickets {
            if let Some(origin) = self.tickets.remove(ticket) {
                self.on_lost(origin, out);
            }
        }
    }

    /// Not done, and never will be: may be tried anew when the role next changes.
    fn on_lost(&mut self, origin: Origin, out: &mut Effects<Self>) {
        match origin {
            Origin::Local(id) => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.stage = Stage::Waiting { after: None };
                    // Raft told of the loss in the middle of its effects, and a leader may already be known.
                    out.set_timer(Timer::Deadline, Duration::ZERO..=Duration::ZERO);
                    self.deadline_timer = Some(Time::ZERO);
                }
            }
            Origin::Peer { node, id, term } => {
                out.send(node, Message::Forwarded { id, term, result: Forwarding::NotLeader });
            }
        }
    }

    /// The leader that was given a write is gone. Whether it has replicated the write, nobody here can tell.
    fn give_up_forwarded(&mut self, term: Term, leader: Option<NodeId>, out: &mut Effects<Self>) {
        if leader.is_none() {
            return; // it may come back, and answer
        }
        let lost = |request: &Request| matches!(request.stage, Stage::Forwarded(then) if then < term);
        let ids: Vec<_> = self.requests.iter().filter(|(_, request)| lost(request)).map(|(id, _)| *id).collect();
        for id in ids {
            self.answer(id, Answer::OutcomeUnknown, out);
        }
    }

    /// Answers the requests whose time is up, tries those that wait, and sets the timer for the others.
    fn on_deadline(&mut self, now: Time, out: &mut Effects<Self>) {
        let due: Vec<_> =
            self.requests.iter().filter(|(_, r)| r.deadline <= now).map(|(id, r)| (*id, r.stage)).collect();
        for (id, stage) in due {
            let is_write = matches!(self.requests[&id].ask, Ask::Write(_));
            let answer = match stage {
                Stage::Waiting { .. } => Answer::NoLeader,
                // A proposal that is still in Raft's hands may get its place in the log any moment.
                Stage::InRaft if !is_write => Answer::NoLeader,
                Stage::InRaft | Stage::Proposed | Stage::Forwarded(_) => Answer::OutcomeUnknown,
            };
            self.answer(id, answer, out);
        }
        self.submit_waiting(now, out);
        let earliest = self.requests.values().map(|request| request.deadline).min();
        self.deadline_timer = earliest;
        if let Some(earliest) = earliest {
            let left = earliest.since(now);
            out.set_timer(Timer::Deadline, left..=left);
        }
    }

    fn answer(&mut self, id: RequestId, answer: Answer, out: &mut Effects<Self>) {
        if self.requests.remove(&id).is_some() {
            out.emit(Event::Answered { id, answer });
        }
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Get { key } => Answer::Value(self.store.get(key).cloned()),
            Query::List { prefix, after, limit } => Answer::Page(self.store.list(prefix, after.as_deref(), *limit)),
        }
    }
}

impl Protocol for RaftKv {
    type Peer = NodeId;
    type Message = Message;
    type Command = Command;
    type Timer = Timer;
    type Record = raft::Record;
    type Event = Event;

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Started => self.step_raft(now, Input::Started, out),
            Input::Received { from, message: Message::Raft(message) } => {
                self.step_raft(now, Input::Received { from, message }, out);
            }
            Input::Received { from, message: Message::Forward { id, term, command } } => {
                self.on_forward(now, from, id, term, command, out);
            }
            Input::Received { from: _, message: Message::Forwarded { id, term, result } } => {
                self.on_forwarded(now, id, term, result, out);
            }
            Input::Elapsed(Timer::Raft(timer)) => self.step_raft(now, Input::Elapsed(timer), out),
            Input::Elapsed(Timer::Deadline) => self.on_deadline(now, out),
            Input::Requested(command) => self.on_request(now, command, out),
        }
    }
}

/// The forwarded writes that this node has taken as the leader of its latest term, so that a message which the network
/// repeats is not proposed twice. It remembers the latest [`MAX_REQUESTS`] of each follower.
#[derive(Debug)]
struct ForwardsSeen {
    /// What was taken in this term or before is not known any more: an earlier life may have led it.
    forgotten: Term,
    term: Term,
    by_node: BTreeMap<NodeId, (Option<RequestId>, BTreeSet<RequestId>)>,
}

impl ForwardsSeen {
    /// A node that starts in `term`.
    const fn since(term: Term) -> Self {
        Self { forgotten: term, term, by_node: BTreeMap::new() }
    }

    /// False only when it is certain that this was never taken.
    fn may_have_taken(&self, term: Term, node: NodeId, id: RequestId) -> bool {
        let seen = || self.by_node.get(&node).is_some_and(|(oldest, seen)| *oldest >= Some(id) || seen.contains(&id));
        term <= self.forgotten || (term == self.term && seen())
    }

    fn take(&mut self, term: Term, node: NodeId, id: RequestId) {
        if term > self.term {
            *self = Self { forgotten: self.term, term, by_node: BTreeMap::new() };
        }
        let (oldest, seen) = self.by_node.entry(node).or_default();
        seen.insert(id);
        if seen.len() > MAX_REQUESTS {
            *oldest = seen.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::command::Command as Write;
    use crate::raft::{Ballot, Body, Config, HardState, Record};

    /// Node n1 of three, elected by n2 in term 2; term 1 was in an earlier life.
    fn leader() -> RaftKv {
        let hard_state = HardState { current_term: Term(1), voted_for: None };
        let config = Config::new(NodeId::numbered(1), 0, (1..=3).map(NodeId::numbered));
        let mut node = RaftKv::new(Raft::recover(config, [Record::HardState(hard_state)]).unwrap());
        step(&mut node, Input::Started);
        step(&mut node, Input::Elapsed(Timer::Raft(raft::Timer::Election)));
        for ballot in [Ballot::PreVote, Ballot::Vote] {
            hear(&mut node, Message::Raft(raft::Message { term: Term(2), body: Body::Vote { ballot, granted: true } }));
        }
        assert_eq!(node.raft().role(), RoleName::Leader);
        node
    }

    fn step(node: &mut RaftKv, input: Input<RaftKv>) -> Vec<Message> {
        let mut effects = Effects::new();
        node.step(Time::ZERO, input, &mut effects);
        let sent = effects
            .drain()
            .filter_map(|effect| if let Effect::Send { message, .. } = effect { Some(message) } else { None });
        sent.collect()
    }

    fn hear(node: &mut RaftKv, message: Message) -> Vec<Message> {
        step(node, Input::Received { from: NodeId::numbered(2), message })
    }

    fn forward(id: u64, term: u64) -> Message {
        let command =
            Write::Set { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v"), condition: None }.encode();
        Message::Forward { id: RequestId(id), term: Term(term), command }
    }

    fn refusal(id: u64, term: u64) -> Vec<Message> {
        vec![Message::Forwarded { id: RequestId(id), term: Term(term), result: Forwarding::NotLeader }]
    }

    fn entries(node: &mut RaftKv) -> usize {
        step(node, Input::Elapsed(Timer::Raft(raft::Timer::Flush)));
        node.raft().log().len()
    }

    /// Seed 974 of the simulation: the first copy was taken; the second came after the leader had stepped down, was
    /// refused, and the client was told that nothing had been done. The write took effect later.
    #[test]
    fn a_repeated_forward_is_not_refused_when_the_first_copy_was_taken() {
        let mut node = leader();
        hear(&mut node, forward(7, 2));
        assert_eq!(entries(&mut node), 2, "the leader's own and the forwarded one");
        assert!(hear(&mut node, forward(7, 2)).is_empty());
        assert_eq!(entries(&mut node), 2, "it is not taken twice");
        let vote = Body::Vote { ballot: Ballot::Vote, granted: false };
        hear(&mut node, Message::Raft(raft::Message { term: Term(3), body: vote }));
        assert_eq!(node.raft().role(), RoleName::Follower);
        assert!(hear(&mut node, forward(7, 2)).is_empty(), "nor refused");
        assert_eq!(hear(&mut node, forward(8, 2)), refusal(8, 2), "what never came before is refused for certain");
    }

    #[test]
    fn a_forward_of_an_earlier_life_is_not_refused_because_nobody_knows() {
        let mut node = leader();
        assert!(hear(&mut node, forward(7, 1)).is_empty());
        assert_eq!(hear(&mut node, forward(7, 9)), refusal(7, 9));
    }

    /// A cluster of one was told that its entry is committed before it was told where it had been put.
    #[test]
    fn alone_a_node_answers_a_write() {
        let config = Config::new(NodeId::numbered(1), 0, [NodeId::numbered(1)]);
        let mut node = RaftKv::new(Raft::recover(config, []).unwrap());
        step(&mut node, Input::Started);
        let write = Write::Set { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v"), condition: None };
        let ask = Ask::Write(write.encode());
        step(&mut node, Input::Requested(Command { id: RequestId(1), ask, timeout: Duration::from_secs(5) }));
        let mut effects = Effects::new();
        node.step(Time::ZERO, Input::Elapsed(Timer::Raft(raft::Timer::Flush)), &mut effects);
        let answer = Answer::Written(Outcome::Set { version: 1 });
        let answered = effects
            .drain()
            .any(|effect| matches!(effect, Effect::Emit(Event::Answered { answer: a, .. }) if a == answer));
        assert!(answered && node.requests_in_hand() == 0);
    }

    #[test]
    fn a_forwarded_command_that_cannot_be_decoded_reaches_no_log() {
        let mut node = leader();
        let rubbish = Message::Forward { id: RequestId(1), term: Term(2), command: Bytes::from_static(b"rubbish") };
        assert!(hear(&mut node, rubbish).is_empty());
        assert_eq!(entries(&mut node), 1);
    }

    #[test]
    fn forwards_that_are_forgotten_count_as_taken() {
        let mut seen = ForwardsSeen::since(Term(0));
        let node = NodeId::numbered(2);
        for id in 0..=MAX_REQUESTS as u64 {
            assert!(!seen.may_have_taken(Term(1), node, RequestId(id + 5)));
            seen.take(Term(1), node, RequestId(id + 5));
        }
        assert!(seen.may_have_taken(Term(1), node, RequestId(5)) && seen.may_have_taken(Term(1), node, RequestId(3)));
        assert!(!seen.may_have_taken(Term(2), node, RequestId(5)), "a new term begins anew");
    }
}
