//! What a Raft key-value node is asked, what it answers, and what nodes say to each other.

use std::fmt::{self, Debug};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::kv::command::{EncodedRequest, Outcome, Versioned};
use crate::kv::snapshot::SnapshotError;
use crate::kv::store::Page;
use crate::kv::view::ViewId;
use crate::node_id::NodeId;
use crate::raft::{self, Change, Configuration, Index, Refusal, RoleName, Term};

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
    /// Change the store.
    Write(EncodedRequest),
    /// Read the store, linearizably: the read sees every write that was acknowledged before it was asked.
    Read(Query),
    /// Read this node's store as it is, which may be out of date.
    ReadStale(Query),
    /// Change the cluster.
    Administer(Administration),
    /// Write a snapshot into this node's log, and forget the entries that it replaces.
    Snapshot,
    /// Open a view of the state, to back it up: linearizable, as [`Ask::Read`].
    OpenView,
    /// Open a view of this node's state as it is, which may be out of date.
    OpenStaleView,
    /// The next chunk of a view that [`Ask::OpenView`] opened here.
    NextChunk(ViewId),
    /// Close such a view before its end.
    CloseView(ViewId),
}

/// What only a leader can do; any node takes it and hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Administration {
    /// Change the members. Answered once that is committed.
    Change(Change),
    /// Let this node lead; None lets the leader choose. Answered once another one leads.
    Transfer(Option<NodeId>),
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
    /// The version of the latest change.
    Version,
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
    /// The version of the latest change.
    Version(u64),
    /// It is done.
    Done,
    /// The view is open. It is closed when nobody asks for its chunks for [`BACKUP_PATIENCE`](crate::defaults::BACKUP_PATIENCE).
    View(OpenedView),
    /// The next chunk; None at the end of the view, which is closed then.
    Chunk(Option<Bytes>),
}

/// A view that was opened for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedView {
    /// Its name.
    pub id: ViewId,
    /// The version of the latest change in it.
    pub version: u64,
    /// The cluster's id.
    pub cluster: Option<u64>,
    /// The last entry that is carried out in it.
    pub through: Index,
    /// The last entry that the node has, committed or not.
    pub last: Index,
}

/// Each kind of answer as what it holds, for whoever knows what was asked.
macro_rules! answer_holds {
    ($($kind:pat => $content:expr, $type:ty;)*) => {$(
        impl TryFrom<Answer> for $type {
            type Error = Answer;

            fn try_from(answer: Answer) -> Result<Self, Answer> {
                if let $kind = answer { Ok($content) } else { Err(answer) }
            }
        }
    )*};
}

answer_holds! {
    Answer::Written(outcome) => outcome, Outcome;
    Answer::Value(value) => value, Option<Versioned>;
    Answer::Page(page) => page, Page;
    Answer::Version(version) => version, u64;
    Answer::Done => (), ();
    Answer::View(view) => view, OpenedView;
    Answer::Chunk(chunk) => chunk, Option<Bytes>;
}

/// Why a request has no answer. Only after [`RequestError::OutcomeUnknown`] it may have been carried out, or may be yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// There was no leader in time.
    #[error("no leader")]
    NoLeader,
    /// There was a leader, and no majority confirmed it in time; nothing was read.
    #[error("no majority answered in time")]
    TooLate,
    /// The write was handed over and its outcome did not come back: it may or may not take effect.
    #[error("outcome unknown")]
    OutcomeUnknown,
    /// This node or the leader has too much to do.
    #[error("overloaded")]
    Overloaded,
    /// The leader refuses.
    #[error(transparent)]
    Refused(Refusal),
    /// The view is not open, or not any more.
    #[error("the view was not read in time and has been closed")]
    ViewClosed,
}

impl RequestError {
    /// Whether it rests on no record: then it need not wait for the disk, which may be why it is given.
    pub(super) const fn rests_on_nothing(self) -> bool {
        match self {
            Self::NoLeader | Self::TooLate | Self::OutcomeUnknown | Self::Overloaded => true,
            Self::Refused(_) | Self::ViewClosed => false,
        }
    }
}

/// What the application is told.
pub enum Event {
    /// The answer to a request; each request gets one.
    Answered {
        /// The request.
        id: RequestId,
        /// The answer, or why there is none.
        answer: Result<Answer, RequestError>,
    },
    /// The members are others now, committed or not.
    MembersChanged(Configuration),
    /// Nothing can be made of a leader's snapshot: it is damaged, or of a format that this node does not know. This node
    /// goes on as it was, and takes no part of that snapshot any more in this term.
    SnapshotRefused {
        /// The leader.
        from: NodeId,
        /// What is wrong with it.
        why: SnapshotError,
    },
    /// The store has changed.
    Changed {
        /// The version of the latest change, up to which [`RaftKv::changes`](super::RaftKv::changes) may be told.
        through: u64,
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

/// Traces of the simulation are compared by what this writes.
impl Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { id, answer } => {
                let answer: &dyn Debug = match answer {
                    Ok(answer) => answer,
                    Err(error) => error,
                };
                f.debug_struct("Answered").field("id", id).field("answer", answer).finish()
            }
            Self::MembersChanged(members) => f.debug_tuple("MembersChanged").field(members).finish(),
            Self::SnapshotRefused { from, why } => {
                f.debug_struct("SnapshotRefused").field("from", from).field("why", why).finish()
            }
            Self::Changed { through } => f.debug_struct("Changed").field("through", through).finish(),
            Self::RoleChanged { role, term, leader } => {
                let mut changed = f.debug_struct("RoleChanged");
                changed.field("role", role).field("term", term).field("leader", leader).finish()
            }
        }
    }
}

/// What nodes say to each other.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// Raft's own.
    Raft(raft::Message),
    /// A follower hands a write to the leader of `term`.
    Forward {
        /// The follower's name for it.
        id: RequestId,
        /// The term in which the receiver leads.
        term: Term,
        /// A [`SessionRequest`](crate::kv::SessionRequest) as bytes, which may be anything.
        request: Bytes,
    },
    /// A follower hands [`Ask::Administer`] to the leader of `term`.
    Administer {
        /// The follower's name for it.
        id: RequestId,
        /// The term in which the receiver leads.
        term: Term,
        /// What is asked.
        what: Administration,
    },
    /// The leader answers [`Message::Forward`] or [`Message::Administer`].
    Forwarded {
        /// The follower's name for it.
        id: RequestId,
        /// The term that the forwarded message named.
        term: Term,
        /// What became of it.
        result: Forwarding,
    },
}

/// Traces of the simulation are compared by what this writes.
impl Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raft(message) => f.debug_tuple("Raft").field(message).finish(),
            Self::Forward { id, term, request } => {
                f.debug_struct("Forward").field("id", id).field("term", term).field("command", request).finish()
            }
            Self::Administer { id, term, what } => {
                f.debug_struct("Administer").field("id", id).field("term", term).field("what", what).finish()
            }
            Self::Forwarded { id, term, result } => {
                f.debug_struct("Forwarded").field("id", id).field("term", term).field("result", result).finish()
            }
        }
    }
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
    /// A change of the members is committed.
    Done,
    /// The leader refuses; it is not done.
    Refused(Refusal),
}

/// The machine's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// One of Raft's.
    Raft(raft::Timer),
    /// The earliest deadline of a request or a view.
    Deadline,
    /// The next chunk of this node's own snapshot.
    Snapshot,
}
