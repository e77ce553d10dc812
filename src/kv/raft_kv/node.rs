//! A node's state, and what is to be known of it.

use std::collections::{BTreeMap, BTreeSet};

use super::forwards::ForwardsSeen;
use super::message::{Administration, Answer, Query, RequestId, Timer};
use super::snapshots::Snapshots;
use crate::deadlines::Deadlines;
use crate::kv::changes::Changes;
use crate::kv::command::EncodedRequest;
use crate::kv::state::State;
use crate::kv::store::Store;
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};
use crate::raft::{Index, Position, Raft, Term, Ticket};

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
    pub(super) raft: Raft,
    pub(super) state: State,
    pub(super) changes: Changes,
    pub(super) requests: BTreeMap<RequestId, Request>,
    /// Raft's tickets in use, and for whom. A write keeps its ticket until it has a place in the log.
    pub(super) tickets: BTreeMap<Ticket, Origin>,
    pub(super) next_ticket: u64,
    /// Writes of this node's leadership that have a place in the log, until that index is committed.
    pub(super) proposed: BTreeMap<Index, (Position, Origin)>,
    pub(super) forwards: ForwardsSeen,
    pub(super) snapshots: Snapshots,
    pub(super) deadlines: Deadlines<Timer>,
    pub(super) raft_effects: Effects<Raft>,
    pub(super) counters: Counters,
    pub(super) ready: Ready,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) deadline: Time,
    pub(super) stage: Stage,
    /// An earlier try may have succeeded: then nobody may say that nothing was done.
    pub(super) may_be_done: bool,
}

impl Request {
    /// Whether it may be carried out twice without harm.
    pub(super) fn has_session(&self) -> bool {
        matches!(&self.work, Work::Write(request) if request.has_session())
    }

    /// Whether it may change something.
    pub(super) const fn is_write(&self) -> bool {
        matches!(self.work, Work::Write(_) | Work::Administer(_))
    }
}

/// What is to be done for a request that cannot be answered at once.
#[derive(Debug)]
pub(super) enum Work {
    Write(EncodedRequest),
    Administer(Administration),
    Read(Query),
    OpenView,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
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
pub(super) enum Origin {
    /// This machine itself.
    Own,
    Local(RequestId),
    Peer {
        node: NodeId,
        id: RequestId,
        term: Term,
    },
}

/// Which members have told the leader of which term that they are [ready](super::ready).
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) term: Term,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) proposed: bool,
}

impl RaftKv {
    /// A node with the log that `raft` recovered and the state after what its snapshot replaces; it grows as entries are
    /// committed. Use [`Recovery`](super::recovery::Recovery).
    pub(super) fn new(raft: Raft, state: State, snapshots: Snapshots) -> Self {
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
            deadlines: Deadlines::on(Timer::Deadline),
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

    /// The latest changes of the store. Those after [`Event::Changed`](super::Event::Changed) may not be durable.
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

    /// This node's store as it is, for a query that sees only what was there at the version `announced` by
    /// [`Event::Changed`](super::Event::Changed): the answer need not wait for the disk. Nothing, when something that the query
    /// asks for has changed since, or may have.
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

    pub(super) fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Get { key } => Answer::Value(self.store().get(key).cloned()),
            Query::Version => Answer::Version(self.store().version()),
            Query::List { prefix, after, limit } => Answer::Page(self.store().list(prefix, after.as_deref(), *limit)),
        }
    }

    pub(super) fn take_ticket(&mut self, origin: Origin) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, origin);
        ticket
    }
}
