//! What commands come to.

use crate::sim::raft::observe::EntryLabel;
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
    /// What a leader knows of the others.
    Progress {
        /// The leader.
        node: usize,
        /// A member each.
        known: Vec<Known>,
    },
    /// Not all was as expected; this was not.
    Unmet(Vec<Unmet>),
}

/// What a leader knows of another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The member.
    pub peer: usize,
    /// Its log is known to equal the leader's up to here.
    pub match_index: u64,
    /// The next entry for it.
    pub next_index: u64,
    /// `probe` while it is not known where the logs agree, then `replicate`, or `snapshot`.
    pub flow: &'static str,
    /// Appends on their way to it, as far as the leader counts them.
    pub in_flight: usize,
}

/// Something that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// What.
    pub field: &'static str,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
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

/// What is asked of a node that has crashed.
pub(super) fn is_down(node: usize) -> Answer {
    not_now(format!("node {node} is down"))
}

pub(super) const fn not_now(why: String) -> Answer {
    Answer::Refused(Refusal::NotNow(why))
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
    /// Whether a candidate only asks for pre-votes so far.
    pub pre_vote: bool,
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

/// What `expect` can ask of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Whether it runs.
    Up,
    /// `leader`, `candidate`, `follower` or `down`.
    State,
    /// Whether it only asks for pre-votes.
    PreVote,
    /// Its term.
    Term,
    /// Whom it follows.
    Leader,
    /// Who got its vote.
    VotedFor,
    /// The last index it knows to be committed.
    Commit,
    /// The last index applied.
    Applied,
    /// The first index in its log.
    First,
    /// The last.
    Last,
    /// The terms of the entries in its log.
    Terms,
    /// The last index on a held disk, or `all`.
    Durable,
    /// The members.
    Members,
    /// Those of them that do not vote.
    Learners,
    /// The commands applied.
    Data,
    /// The answer to its latest read; `waits` until there is one.
    Read,
}

impl Field {
    /// Each with its name.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Up, "up"),
        (Self::State, "state"),
        (Self::PreVote, "pre_vote"),
        (Self::Term, "term"),
        (Self::Leader, "leader"),
        (Self::VotedFor, "voted_for"),
        (Self::Commit, "commit"),
        (Self::Applied, "applied"),
        (Self::First, "first"),
        (Self::Last, "last"),
        (Self::Terms, "terms"),
        (Self::Durable, "durable"),
        (Self::Members, "members"),
        (Self::Learners, "learners"),
        (Self::Data, "data"),
        (Self::Read, "read"),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(field, _)| *field)
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(field, _)| *field == self).map_or("", |(_, name)| name)
    }

    /// Whether `n2` is meant where the value is `2`.
    pub(super) const fn is_of_nodes(self) -> bool {
        matches!(self, Self::Leader | Self::VotedFor | Self::Members | Self::Learners)
    }
}

impl State {
    /// A field's value as `expect` writes it: lists with commas, `none` for nobody.
    pub(super) fn value(&self, field: Field, read: Option<&ReadAnswer>) -> String {
        let numbers = |nodes: &[usize]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let node = |node: Option<usize>| node.map_or("none".to_owned(), |node| node.to_string());
        match field {
            Field::Up => self.up.to_string(),
            Field::State => (if self.up { self.role } else { "down" }).to_owned(),
            Field::PreVote => self.pre_vote.to_string(),
            Field::Term => self.term.to_string(),
            Field::Leader => node(self.leader),
            Field::VotedFor => node(self.voted_for),
            Field::Commit => self.commit.to_string(),
            Field::Applied => self.applied.to_string(),
            Field::First => self.first.to_string(),
            Field::Last => self.last.to_string(),
            Field::Terms => self.log.iter().map(|entry| entry.term.to_string()).collect::<Vec<_>>().join(","),
            Field::Durable => self.durable.map_or("all".to_owned(), |last| last.to_string()),
            Field::Members => numbers(&self.members),
            Field::Learners => numbers(&self.learners),
            Field::Data => self.data.join(","),
            Field::Read => match read.map(|read| &read.found) {
                None => "waits".to_owned(),
                Some(None) => "none".to_owned(),
                Some(Some((_, data))) => data.join(","),
            },
        }
    }
}
