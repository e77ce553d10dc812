//! Raft and the replicated state as one protocol machine.
//!
//! A request has a deadline and goes through stages. It waits until a leader is known; a read is then served by
//! Raft's read index on this node; a write is proposed, or forwarded to the leader. When its leader is gone and nobody
//! can tell whether it was done, a write with a session is tried again with the next leader, which the session makes
//! safe; one without is never tried again. When the outcome stays unknown, the answer says so.
//!
//! The first leader that commits an entry gives the cluster its id.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::changes::Changes;
use super::command::{self, EncodedRequest, Outcome};
use super::state::State;
use super::store::Store;
use crate::defaults::{MAX_REQUESTS, MAX_UNCOMMITTED_BYTES};
use crate::node_id::NodeId;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};
use crate::raft::{self, Entry, Index, Payload, Position, Raft, Refusal, RoleName, Term, Ticket};

mod forwards;
mod message;
mod ready;
mod snapshots;
#[cfg(test)]
mod tests;
mod wire;

pub use message::{
    Administration, Answer, Ask, Command, Event, Forwarding, Message, OpenedView, Query, RequestError, RequestId, Timer,
};
pub use snapshots::{RecoverError, Recovery};

use forwards::ForwardsSeen;
use ready::Ready;
use snapshots::Snapshots;

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

/// A Raft node with its state.
#[derive(Debug)]
pub struct RaftKv {
    raft: Raft,
    state: State,
    changes: Changes,
    requests: BTreeMap<RequestId, Request>,
    /// Raft's tickets in use, and for whom. A write keeps its ticket until it has a place in the log.
    tickets: BTreeMap<Ticket, Origin>,
    next_ticket: u64,
    /// Writes of this node's leadership that have a place in the log, until that index is committed.
    proposed: BTreeMap<Index, (Position, Origin)>,
    forwards: ForwardsSeen,
    snapshots: Snapshots,
    /// When the timer rings.
    deadline_timer: Option<Time>,
    raft_effects: Effects<Raft>,
    counters: Counters,
    ready: Ready,
}

#[derive(Debug)]
struct Request {
    work: Work,
    deadline: Time,
    stage: Stage,
    /// An earlier try may have succeeded: then nobody may say that nothing was done.
    may_be_done: bool,
}

impl Request {
    /// Whether it may be carried out twice without harm.
    fn has_session(&self) -> bool {
        matches!(&self.work, Work::Write(request) if request.has_session())
    }

    /// Whether it may change something.
    const fn is_write(&self) -> bool {
        matches!(self.work, Work::Write(_) | Work::Administer(_))
    }
}

/// What is to be done for a request that cannot be answered at once.
#[derive(Debug)]
enum Work {
    Write(EncodedRequest),
    Administer(Administration),
    Read(Query),
    OpenView,
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
    /// This machine itself.
    Own,
    Local(RequestId),
    Peer {
        node: NodeId,
        id: RequestId,
        term: Term,
    },
}

impl RaftKv {
    /// A node with the log that `raft` recovered and the state after what its snapshot replaces; it grows as entries are
    /// committed. Use [`Recovery`].
    fn new(raft: Raft, state: State, snapshots: Snapshots) -> Self {
        Self {
            forwards: ForwardsSeen::since(raft.hard_state().current_term),
            raft,
            changes: Changes::starting_after(state.store().version()),
            state,
            snapshots,
            requests: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            proposed: BTreeMap::new(),
            deadline_timer: None,
            raft_effects: Effects::new(),
            counters: Counters::default(),
            ready: Ready::default(),
        }
    }

    /// The same node, which remembers no more clients than so many, for a simulation in which there are few. All nodes of a
    /// cluster must say the same, each time they start.
    #[must_use]
    pub fn remembering(mut self, clients: usize) -> Self {
        self.state.limit_clients(clients);
        self
    }

    /// The Raft node.
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The replicated state, as far as it has been applied.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The store of that state.
    pub const fn store(&self) -> &Store {
        self.state.store()
    }

    /// The latest changes of the store. Those after [`Event::Changed`] may not be durable.
    pub const fn changes(&self) -> &Changes {
        &self.changes
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
        let (mut resume, mut found, mut wanted) = (false, false, Vec::new());
        for effect in effects.drain() {
            match effect {
                Effect::Persist(record) => out.persist(record),
                Effect::Send { to, message } => out.send(to, Message::Raft(message)),
                Effect::SetTimer(timer, length) => out.set_timer(Timer::Raft(timer), length),
                Effect::CancelTimer(timer) => out.cancel_timer(Timer::Raft(timer)),
                Effect::Emit(raft::Event::Committed(entries)) => found |= self.apply(entries, out),
                Effect::Emit(raft::Event::Proposed { ticket, position }) => self.on_proposed(ticket, position, out),
                Effect::Emit(raft::Event::ReadReady { tickets }) => self.serve_reads(now, &tickets, out),
                Effect::Emit(raft::Event::Dropped { tickets }) => self.on_dropped(&tickets, out),
                Effect::Emit(raft::Event::Refused { ticket, why }) => self.on_refused(ticket, why, out),
                Effect::Emit(raft::Event::SteppedDown { ticket }) => drop(self.tickets.remove(&ticket)),
                Effect::Emit(raft::Event::ConfigurationChanged(members)) => out.emit(Event::MembersChanged(members)),
                Effect::Emit(raft::Event::ChunkWanted { to, number }) => wanted.push((to, number)),
                Effect::Emit(raft::Event::ChunksUnwanted { to }) => self.close_install(to),
                Effect::Emit(raft::Event::Chunk { number, data: _ }) => self.on_chunk(number, out),
                Effect::Emit(raft::Event::Restored { last }) => self.restore(last, out),
                Effect::Meanwhile { to, message } => out.meanwhile(to, Message::Raft(message)),
                Effect::EmitAtOnce(event) => unreachable!("Raft tells nothing past its barrier: {event:?}"),
                Effect::Emit(raft::Event::RoleChanged { role, term, leader }) => {
                    out.emit(Event::RoleChanged { role, term, leader });
                    self.give_up_forwarded(term, leader, out);
                    resume |= leader.is_some();
                }
            }
        }
        self.raft_effects = effects;
        for (to, number) in wanted {
            self.offer_chunk(now, to, number, out);
        }
        if found {
            self.found(now, out);
        }
        if resume {
            self.submit_waiting(now, out);
        }
    }

    fn on_request(&mut self, now: Time, command: Command, out: &mut Effects<Self>) {
        let Command { id, ask, timeout } = command;
        let is_write = matches!(ask, Ask::Write(_) | Ask::Administer(_));
        let has_no_room = if is_write { !self.takes_writes(now) } else { self.is_overloaded() };
        if has_no_room && !matches!(ask, Ask::CloseView(_)) {
            return out.emit_at_once(Event::Answered { id, answer: Err(RequestError::Overloaded) });
        }
        let work = match ask {
            Ask::Write(request) => Work::Write(request),
            Ask::Administer(what) => Work::Administer(what),
            Ask::Read(query) => {
                self.counters.reads += 1;
                Work::Read(query)
            }
            Ask::OpenView => {
                self.counters.reads += 1;
                Work::OpenView
            }
            Ask::ReadStale(query) => {
                self.counters.reads += 1;
                return out.emit(Event::Answered { id, answer: Ok(self.query(&query)) });
            }
            Ask::OpenStaleView => {
                self.counters.reads += 1;
                let answer = self.open_backup(now, out);
                return out.emit(Event::Answered { id, answer });
            }
            Ask::Snapshot => return self.ask_snapshot(now, id, out),
            Ask::NextChunk(view) => return self.next_chunk(now, id, view, out),
            Ask::CloseView(view) => return self.close_backup(id, view, out),
        };
        let deadline = now + timeout;
        let stage = Stage::Waiting { after: None };
        self.requests.insert(id, Request { work, deadline, stage, may_be_done: false });
        self.ring_at(now, deadline, out);
        self.submit(now, id, out);
    }

    fn ring_at(&mut self, now: Time, deadline: Time, out: &mut Effects<Self>) {
        if self.deadline_timer.is_none_or(|at| deadline < at) {
            self.deadline_timer = Some(deadline);
            let left = deadline.since(now);
            out.set_timer(Timer::Deadline, left..=left);
        }
    }

    /// What Raft still has in hand counts, too, although whoever asked for it may have gone.
    fn is_overloaded(&self) -> bool {
        self.requests.len().max(self.tickets.len() + self.proposed.len()) >= MAX_REQUESTS
    }

    /// Behind a disk that stands still, or a majority whose disks do, writes would pile up without end: whoever asks is answered when
    /// his time is up, and asks for the next one.
    fn takes_writes(&self, now: Time) -> bool {
        !self.is_overloaded()
            && !self.raft.disk_stands_still(now)
            && self.raft.uncommitted_bytes() <= MAX_UNCOMMITTED_BYTES
    }

    /// Takes a waiting request one step further, if the leader it waits for is known.
    fn submit(&mut self, now: Time, id: RequestId, out: &mut Effects<Self>) {
        let term = self.raft.hard_state().current_term;
        let Some(leader) = self.raft.leader() else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !matches!(request.stage, Stage::Waiting { after } if after.is_none_or(|after| term > after)) {
            return;
        }
        match &request.work {
            Work::Write(command) if leader != self.raft.config().id => {
                request.stage = Stage::Forwarded(term);
                self.counters.forwarded += 1;
                out.send(leader, Message::Forward { id, term, command: command.clone().into_bytes() });
            }
            Work::Write(command) => {
                request.stage = Stage::InRaft;
                let command = command.clone();
                self.propose(now, Origin::Local(id), command, out);
            }
            Work::Administer(Administration::Transfer(Some(to))) if *to == leader => {
                self.answer(id, Ok(Answer::Done), out);
            }
            Work::Administer(what) => {
                request.stage = Stage::Forwarded(term);
                let what = what.clone();
                if leader == self.raft.config().id {
                    self.administer(now, Origin::Local(id), what, out);
                } else {
                    out.send(leader, Message::Administer { id, term, what });
                }
            }
            Work::Read(_) | Work::OpenView => {
                request.stage = Stage::InRaft;
                let ticket = self.take_ticket(Origin::Local(id));
                self.step_raft(now, Input::Requested(raft::Command::Read { ticket }), out);
            }
        }
    }

    fn administer(&mut self, now: Time, origin: Origin, what: Administration, out: &mut Effects<Self>) {
        let ticket = self.take_ticket(origin);
        let command = match what {
            Administration::Change(change) => raft::Command::Change { ticket, change },
            Administration::Transfer(to) => raft::Command::Transfer { ticket, to },
        };
        self.step_raft(now, Input::Requested(command), out);
    }

    fn submit_waiting(&mut self, now: Time, out: &mut Effects<Self>) {
        let waiting = self.requests.iter().filter(|(_, request)| matches!(request.stage, Stage::Waiting { .. }));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.submit(now, id, out);
        }
    }

    fn propose(&mut self, now: Time, origin: Origin, request: EncodedRequest, out: &mut Effects<Self>) {
        self.counters.proposals += u64::from(!matches!(origin, Origin::Own));
        let ticket = self.take_ticket(origin);
        let command = request.into_bytes();
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
        // No correct node forwards anything else, and it must not reach the log.
        let Ok(request) = EncodedRequest::try_from(command) else { return };
        if request.is_to_keep_forgotten() {
            return self.on_ready(now, node, term, out);
        }
        if self.forwards.may_have_taken(term, node, id) {
            return;
        }
        let leads = self.raft.role() == RoleName::Leader && self.raft.hard_state().current_term == term;
        let result = if !leads {
            Forwarding::NotLeader
        } else {
            self.forwards.take(term, node, id); // a repetition is not taken after this copy was refused, either
            if self.takes_writes(now) {
                return self.propose(now, Origin::Peer { node, id, term }, request, out);
            }
            Forwarding::Overloaded
        };
        out.send(node, Message::Forwarded { id, term, result });
    }

    /// A follower hands over a change of the cluster. One that comes twice finds that there is nothing left to change.
    fn on_administer(
        &mut self,
        now: Time,
        node: NodeId,
        id: RequestId,
        term: Term,
        what: Administration,
        out: &mut Effects<Self>,
    ) {
        let leads = self.raft.role() == RoleName::Leader && self.raft.hard_state().current_term == term;
        if self.forwards.may_have_taken(term, node, id) {
            return;
        }
        if leads {
            self.forwards.take(term, node, id);
            return self.administer(now, Origin::Peer { node, id, term }, what, out);
        }
        out.send(node, Message::Forwarded { id, term, result: Forwarding::NotLeader });
    }

    /// The leader answers. An answer in another term than the request's is a late one.
    fn on_forwarded(&mut self, now: Time, id: RequestId, term: Term, result: Forwarding, out: &mut Effects<Self>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if request.stage != Stage::Forwarded(term) {
            return;
        }
        match result {
            Forwarding::Applied(outcome) => self.answer(id, Ok(Answer::Written(outcome)), out),
            Forwarding::Overloaded => self.refuse(id, RequestError::Overloaded, out),
            Forwarding::Done => self.answer(id, Ok(Answer::Done), out),
            Forwarding::Refused(why) => self.answer(id, Err(RequestError::Refused(why)), out),
            Forwarding::NotLeader => {
                request.stage = Stage::Waiting { after: Some(term) };
                self.submit(now, id, out);
            }
        }
    }

    fn on_refused(&mut self, ticket: Ticket, why: Refusal, out: &mut Effects<Self>) {
        match self.tickets.remove(&ticket) {
            Some(Origin::Local(id)) => self.answer(id, Err(RequestError::Refused(why)), out),
            Some(Origin::Peer { node, id, term }) => {
                out.send(node, Message::Forwarded { id, term, result: Forwarding::Refused(why) });
            }
            Some(Origin::Own) | None => {}
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
            self.outcome_unknown(id, out);
        }
    }

    /// Carries out what is committed. True when this node, as the leader, is to [found](Self::found) the cluster.
    fn apply(&mut self, entries: Vec<Entry>, out: &mut Effects<Self>) -> bool {
        let (before, mut found, mut tell) = (self.store().version(), false, false);
        for entry in entries {
            tell |= Self::is_time_to_tell(entry.position.index.0, matches!(entry.payload, Payload::Noop));
            let outcome = match entry.payload {
                Payload::Noop => {
                    // A leader's first entry: all earlier ones have been applied, and none of them was a Found.
                    let is_ours = entry.position.term == self.raft.hard_state().current_term;
                    found |= is_ours && self.raft.role() == RoleName::Leader && self.is_to_found();
                    None
                }
                Payload::Configuration(_) => None,
                Payload::Command(bytes) => {
                    let size = bytes.len();
                    // Leaders decode before they propose: what cannot be decoded here was written by a newer
                    // netbelt, and skipping it would make this state differ from the others.
                    let request = command::SessionRequest::decode(bytes);
                    let request = request.unwrap_or_else(|e| panic!("cannot apply {:?}: {e}", entry.position));
                    let (outcome, change) = self.state.apply(request);
                    self.snapshots.applied(size);
                    change.into_iter().for_each(|change| self.changes.push(change));
                    Some(outcome)
                }
            };
            let Some((position, origin)) = self.proposed.remove(&entry.position.index) else { continue };
            match (position == entry.position, outcome, origin) {
                (true, _, Origin::Own) => {}
                (true, Some(outcome), Origin::Local(id)) => self.answer(id, Ok(Answer::Written(outcome)), out),
                (true, Some(outcome), Origin::Peer { node, id, term }) => {
                    out.send(node, Message::Forwarded { id, term, result: Forwarding::Applied(outcome) });
                }
                (true, None, Origin::Local(id)) => self.answer(id, Ok(Answer::Done), out),
                (true, None, Origin::Peer { node, id, term }) => {
                    out.send(node, Message::Forwarded { id, term, result: Forwarding::Done });
                }
                // Another leader's entry has the place: ours is lost, for certain.
                (_, _, origin) => self.on_lost(origin, out),
            }
        }
        let through = self.store().version();
        if through > before {
            out.emit(Event::Changed { through });
        }
        if tell {
            self.tell_ready(out);
        }
        found
    }

    fn serve_reads(&mut self, now: Time, tickets: &[Ticket], out: &mut Effects<Self>) {
        for ticket in tickets {
            let Some(Origin::Local(id)) = self.tickets.remove(ticket) else { continue };
            let answer = match self.requests.get(&id) {
                Some(Request { work: Work::Read(query), .. }) => Ok(self.query(query)),
                Some(Request { work: Work::OpenView, .. }) => self.open_backup(now, out),
                Some(_) | None => continue,
            };
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
            Origin::Own => {} // the next leader founds the cluster
            Origin::Local(id) => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.stage = Stage::Waiting { after: None };
                    self.look_again_soon(out);
                }
            }
            Origin::Peer { node, id, term } => {
                out.send(node, Message::Forwarded { id, term, result: Forwarding::NotLeader });
            }
        }
    }

    /// The leader that was given a write is gone. Whether it has replicated the write, nobody here can tell.
    /// What was proposed here while this node led will tell by itself, but only once the new leader commits.
    fn give_up_forwarded(&mut self, term: Term, leader: Option<NodeId>, out: &mut Effects<Self>) {
        if leader.is_none() {
            return; // it may come back, and answer
        }
        let is_other = leader != Some(self.raft.config().id);
        let lost = |request: &Request| match request.stage {
            Stage::Forwarded(then) => then < term,
            Stage::Proposed => is_other && request.has_session(),
            Stage::Waiting { .. } | Stage::InRaft => false,
        };
        let ids: Vec<_> = self.requests.iter().filter(|(_, request)| lost(request)).map(|(id, _)| *id).collect();
        for id in ids {
            match (&self.requests[&id].work, leader) {
                // A leader that was asked to go has gone. Whoever leads now was wanted, or nobody in particular was.
                (Work::Administer(Administration::Transfer(to)), Some(leader)) => {
                    let taken_over = to.is_none_or(|to| to == leader);
                    let refused = RequestError::Refused(Refusal::NotTakenOver);
                    self.answer(id, if taken_over { Ok(Answer::Done) } else { Err(refused) }, out);
                }
                _ => self.outcome_unknown(id, out),
            }
        }
    }

    /// Nobody can tell whether a write was done, or will be. With a session, it may be tried again.
    fn outcome_unknown(&mut self, id: RequestId, out: &mut Effects<Self>) {
        match self.requests.get_mut(&id) {
            Some(request) if request.has_session() => {
                request.may_be_done = true;
                request.stage = Stage::Waiting { after: None };
                self.look_again_soon(out);
            }
            Some(_) | None => self.answer(id, Err(RequestError::OutcomeUnknown), out),
        }
    }

    /// Raft tells of losses in the middle of its effects, when a leader may already be known.
    fn look_again_soon(&mut self, out: &mut Effects<Self>) {
        out.set_timer(Timer::Deadline, Duration::ZERO..=Duration::ZERO);
        self.deadline_timer = Some(Time::ZERO);
    }

    /// Answers the requests whose time is up, tries those that wait, and sets the timer for the others.
    fn on_deadline(&mut self, now: Time, out: &mut Effects<Self>) {
        let due: Vec<_> = self
            .requests
            .iter()
            .filter(|(_, r)| r.deadline <= now)
            .map(|(id, r)| (*id, r.stage, r.is_write()))
            .collect();
        for (id, stage, is_write) in due {
            let error = match stage {
                Stage::Waiting { .. } => RequestError::NoLeader,
                // A proposal that is still in Raft's hands may get its place in the log any moment.
                Stage::InRaft if !is_write => RequestError::TooLate,
                Stage::InRaft | Stage::Proposed | Stage::Forwarded(_) => RequestError::OutcomeUnknown,
            };
            self.refuse(id, error, out);
        }
        self.submit_waiting(now, out);
        let views = self.snapshots.close_late_backups(now, &mut self.state);
        let earliest = self.requests.values().map(|request| request.deadline).chain(views).min();
        self.deadline_timer = earliest;
        if let Some(earliest) = earliest {
            let left = earliest.since(now);
            out.set_timer(Timer::Deadline, left..=left);
        }
    }

    /// Answers that nothing was done, unless an earlier try may have succeeded.
    fn refuse(&mut self, id: RequestId, error: RequestError, out: &mut Effects<Self>) {
        let may_be_done = self.requests.get(&id).is_some_and(|request| request.may_be_done);
        self.answer(id, Err(if may_be_done { RequestError::OutcomeUnknown } else { error }), out);
    }

    fn answer(&mut self, id: RequestId, answer: Result<Answer, RequestError>, out: &mut Effects<Self>) {
        let Some(request) = self.requests.remove(&id) else { return };
        let is_forgotten = matches!(&answer, Ok(Answer::Written(Outcome::Forgotten | Outcome::NameForgotten)));
        // It did not come in time to be remembered, and an earlier try may have.
        let answer = if is_forgotten && request.may_be_done { Err(RequestError::OutcomeUnknown) } else { answer };
        if answer.as_ref().is_err_and(|error| error.rests_on_nothing()) {
            out.emit_at_once(Event::Answered { id, answer });
        } else {
            out.emit(Event::Answered { id, answer });
        }
    }

    /// This node's store as it is, for a query that sees only what was there at the version `announced` by [`Event::Changed`]:
    /// the answer need not wait for the disk. Nothing, when something that the query asks for has changed since, or may have.
    pub fn read_durable(&self, query: &Query, announced: u64) -> Option<Answer> {
        let since = self.changes.after(announced).ok();
        let has_changed = match query {
            _ if self.store().version() == announced => false,
            Query::Get { key } => since.is_none_or(|mut since| since.any(|change| change.key == *key)),
            Query::List { prefix, .. } => {
                since.is_none_or(|mut since| since.any(|change| change.key.starts_with(prefix)))
            }
            Query::Version => true,
        };
        (!has_changed).then(|| self.query(query))
    }

    fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Get { key } => Answer::Value(self.store().get(key).cloned()),
            Query::Version => Answer::Version(self.store().version()),
            Query::List { prefix, after, limit } => Answer::Page(self.store().list(prefix, after.as_deref(), *limit)),
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
            Input::Started => {
                out.emit(Event::Changed { through: self.store().version() }); // what its snapshot holds
                self.step_raft(now, Input::Started, out);
            }
            Input::Received { from, message: Message::Raft(message) } => {
                if self.can_read(now, from, &message, out) {
                    self.step_raft(now, Input::Received { from, message }, out);
                }
            }
            Input::Received { from, message: Message::Administer { id, term, what } } => {
                self.on_administer(now, from, id, term, what, out);
            }
            Input::Received { from, message: Message::Forward { id, term, command } } => {
                self.on_forward(now, from, id, term, command, out);
            }
            Input::Received { from: _, message: Message::Forwarded { id, term, result } } => {
                self.on_forwarded(now, id, term, result, out);
            }
            Input::Elapsed(Timer::Raft(timer)) => self.step_raft(now, Input::Elapsed(timer), out),
            Input::Synced { took, more } => self.step_raft(now, Input::Synced { took, more }, out),
            Input::Elapsed(Timer::Deadline) => self.on_deadline(now, out),
            Input::Elapsed(Timer::Snapshot) => self.go_on_with_snapshot(now, out),
            Input::Requested(command) => self.on_request(now, command, out),
        }
        self.forget_incoming();
        self.begin_snapshot_if_due(now, out);
    }

    fn record_bytes(record: &raft::Record) -> usize {
        Raft::record_bytes(record)
    }
}
