//! What commands come to.

use crate::sim::observe::EntryLabel;
use crate::sim::trace::Flight;

/// A violation of Raft's promises, or of a machine's own: the run is over.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// What a command came to.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// So many messages were delivered, dropped, repeated or turned round.
    Moved(usize),
    /// It has this place in the leader's log.
    Proposed {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The read is asked; its answer is among [`Script::take_reads`](super::Script::take_reads), now or later.
    Asked,
    /// It cannot be done now; the script goes on.
    Refused(Refusal),
    /// Nodes, to be shown.
    States(Vec<State>),
    /// Messages in flight, oldest first.
    Pending(Vec<Flight>),
}

/// Why a command cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such node, or no cluster at all: the script is wrong.
    #[error("{0}")]
    Mistake(String),
    /// The node does not lead.
    #[error("not leader")]
    NotLeader {
        /// Who leads, as far as it knows.
        leader: Option<usize>,
    },
    /// The node has crashed, or the other way round.
    #[error("{0}")]
    NotNow(String),
}

/// A read that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// The node that was asked.
    pub node: usize,
    /// What it has applied, and up to which index; None when it gave the read up.
    pub found: Option<(u64, Vec<String>)>,
}

/// A node, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its number.
    pub id: usize,
    /// Whether it runs. Of a node that does not, what its disk holds is shown.
    pub up: bool,
    /// `follower`, `candidate`, `leader`.
    pub role: &'static str,
    /// Its term.
    pub term: u64,
    /// Whom it follows.
    pub leader: Option<usize>,
    /// Who got its vote in this term.
    pub voted_for: Option<usize>,
    /// The last index it knows to be committed.
    pub commit: u64,
    /// The last index its application has applied.
    pub applied: u64,
    /// The first index in its log.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The log.
    pub log: Vec<EntryLabel>,
    /// The members, as its log has them.
    pub members: Vec<usize>,
    /// Those of them that do not vote.
    pub learners: Vec<usize>,
    /// The commands applied, in order.
    pub data: Vec<String>,
    /// The end of its log on its disk, when that is held and has not got everything.
    pub durable: Option<u64>,
}
