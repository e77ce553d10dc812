//! What nodes say to each other (Raft, Figure 2), what they are asked and what they answer.

use bytes::Bytes;

use super::configuration::{Change, Configuration, Refusal};
use super::types::{Entry, Index, Position, Term};
use crate::node_id::NodeId;

/// A message: the sender's term (for a pre-vote request and its grant, the term asked for) and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The term.
    pub term: Term,
    /// The rest.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Asks for a vote (Raft, Figure 2, RequestVote RPC).
    RequestVote {
        /// A vote, or whether one would be given.
        ballot: Ballot,
        /// The candidate's last entry.
        last: Position,
        /// The leader itself wants this election: to hear a leader is no reason to refuse (thesis §4.2.3).
        transfer: bool,
    },
    /// Answers [`Body::RequestVote`].
    Vote {
        /// The kind that was asked for.
        ballot: Ballot,
        /// Yes or no.
        granted: bool,
    },
    /// Replicates entries; without entries, a heartbeat (Raft, Figure 2, AppendEntries RPC).
    Append(Append),
    /// Answers [`Body::Append`].
    Appended {
        /// The round of the append that is answered.
        round: Round,
        /// Whether the logs match now.
        outcome: AppendOutcome,
    },
    /// A leader whose appends wait for its disk is there all the same. It says nothing of its log.
    Heartbeat {
        /// The leader's latest round.
        round: Round,
    },
    /// A follower hears the leader of this term, although its answers may wait for its disk. It says nothing of its log.
    HeartbeatReply {
        /// The round that it has heard of.
        round: Round,
    },
    /// A follower asks for a read index on behalf of its readers (thesis §6.4).
    ReadIndex {
        /// The follower's name for this question.
        question: u64,
    },
    /// Answers [`Body::ReadIndex`].
    ReadIndexIs {
        /// The question answered.
        question: u64,
        /// A read that sees the entries up to here is linearizable.
        index: Index,
    },
    /// A part of a snapshot, for a follower that needs entries which are gone (Raft §7, InstallSnapshot RPC).
    InstallSnapshot(InstallSnapshot),
    /// Answers [`Body::InstallSnapshot`], unless that was the last part: then an append has been matched.
    Installing {
        /// The snapshot.
        last: Position,
        /// The part wanted next.
        next: u64,
    },
    /// The leader wants the receiver to lead: start an election now (thesis §3.10).
    TimeoutNow,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstallSnapshot {
    /// The last entry that the snapshot replaces.
    pub last: Position,
    /// The members at that entry.
    pub configuration: Configuration,
    /// Which part: 0, 1, ...
    pub number: u64,
    /// The part, which Raft does not look into.
    pub data: Bytes,
    /// Whether it is the last one.
    pub done: bool,
}

/// A pre-vote asks whether an election could be won, and changes nothing (thesis §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ballot {
    /// Whether one would be given.
    PreVote,
    /// A vote.
    Vote,
}

/// Entries, and the leader's heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// The entry just before the first of `entries`.
    pub prev: Position,
    /// Consecutive entries after `prev`.
    pub entries: Vec<Entry>,
    /// The leader's commit index.
    pub commit: Index,
    /// The latest round of reads the leader wants confirmed.
    pub round: Round,
}

/// Counts the times a leader asked its followers whether it still leads, in its term (thesis §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Round(pub u64);

/// Whether an append found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendOutcome {
    /// The follower's log equals the leader's up to here.
    Matched(Index),
    /// The follower has no entry at `prev`, or another one.
    Conflict {
        /// The `prev` that was refused.
        prev: Position,
        /// Where the leader may try next: the first entry of the follower's term at `prev`, or the end
        /// of a log that is too short (Raft §5.3, the optimisation at its end).
        first: Index,
        /// The follower's term at `prev`, unless its log is too short.
        term: Option<Term>,
    },
}

/// The application's name for what it asked: each is answered by an event that repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the application asks.
#[derive(Clone, Debug)]
pub enum Command {
    /// Replicate a command. Answered by [`Event::Proposed`] or [`Event::Dropped`].
    Propose {
        /// Its name.
        ticket: Ticket,
        /// The command.
        command: Bytes,
    },
    /// A point at which a read is linearizable. Answered by [`Event::ReadReady`] or [`Event::Dropped`].
    Read {
        /// Its name.
        ticket: Ticket,
    },
    /// Change the members. Answered by [`Event::Proposed`] or [`Event::Refused`].
    Change {
        /// Its name.
        ticket: Ticket,
        /// The change.
        change: Change,
    },
    /// Let another node lead (thesis §3.10). Answered by [`Event::Refused`] or [`Event::SteppedDown`].
    Transfer {
        /// Its name.
        ticket: Ticket,
        /// Who shall lead; None lets the leader choose.
        to: Option<NodeId>,
    },
    /// Begin a snapshot of what has been applied. Its parts and its end are to follow; until then it is none.
    BeginSnapshot,
    /// The next part of the snapshot begun.
    SnapshotChunk(Bytes),
    /// It is whole: forget the entries that it replaces.
    EndSnapshot,
    /// Forget what came of the leader's snapshot: nothing can be made of it.
    GiveUpInstall,
    /// The part that [`Event::ChunkWanted`] asked for. Part 0 begins a view of what has been applied by now.
    OfferChunk {
        /// For whom.
        to: NodeId,
        /// Which part.
        number: u64,
        /// The part.
        data: Bytes,
        /// Whether it is the last one.
        done: bool,
    },
}

/// What the application is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// These entries are committed: apply them, in order. Every entry is told once between two starts.
    Committed(Vec<Entry>),
    /// The command has this place in the log of the leader, who is this node. It is committed when an entry
    /// with this very position is, and lost when another one is at its index.
    Proposed {
        /// Its name.
        ticket: Ticket,
        /// Its place.
        position: Position,
    },
    /// A read of what has been applied by now is linearizable.
    ReadReady {
        /// The reads that may go.
        tickets: Vec<Ticket>,
    },
    /// Not done, and it will not be: there is no leader, or no longer the same one. To ask again is safe. A change of
    /// the members is dropped like a proposal.
    Dropped {
        /// What is given up.
        tickets: Vec<Ticket>,
    },
    /// Refused; nothing was done.
    Refused {
        /// What was asked.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// The leader that was asked to let another one lead leads no more, for that reason or another.
    SteppedDown {
        /// What was asked.
        ticket: Ticket,
    },
    /// The latest configuration in the log is another one.
    ConfigurationChanged(Configuration),
    /// A follower needs this part of a snapshot: [`Command::OfferChunk`] is to give it.
    ChunkWanted {
        /// The follower.
        to: NodeId,
        /// Which part; 0 is that of a new view.
        number: u64,
    },
    /// No more parts for this follower.
    ChunksUnwanted {
        /// The follower.
        to: NodeId,
    },
    /// A part of a snapshot came from the leader. Part 0 begins anew.
    Chunk {
        /// Which part.
        number: u64,
        /// The part.
        data: Bytes,
    },
    /// The parts since the last part 0 are the state after `last`: it takes the place of what was applied.
    Restored {
        /// The last entry that the state comprises.
        last: Position,
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

/// A role without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it could be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl RoleName {
    /// The name in lower case; both kinds of candidate are one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::PreCandidate | Self::Candidate => "candidate",
            Self::Leader => "leader",
        }
    }
}

/// The machine's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A follower or candidate heard of no leader for this long (Raft §5.2).
    Election,
    /// A leader's next heartbeat, and its count of whom it heard.
    Heartbeat,
    /// Everything queued has been stepped: what is pending goes out as one batch.
    Flush,
    /// More is committed than has been applied.
    Apply,
    /// A snapshot replaces more entries than have been forgotten.
    Compact,
    /// What is committed is to be noted among the records.
    Note,
}
