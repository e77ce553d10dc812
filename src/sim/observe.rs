//! What instruments see of a machine and its messages, in words and numbers: traces, scripts and diagrams know no more.

use crate::kv::raft_kv::{self, Forwarding, RaftKv};
use crate::node_id::NodeId;
use crate::protocol::Protocol;
use crate::raft::{
    self, AppendOutcome, Ballot, Body, Entry, InstallSnapshot, Member, Payload, Position, Raft, RoleName,
};

/// A machine that can be looked at.
pub trait Observable: Protocol {
    /// What it is now.
    fn look(&self) -> Look<Self::Peer>;

    /// What a message says.
    fn label(message: &Self::Message) -> Label;
}

/// What a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look<Peer> {
    /// `follower`, `candidate`, `leader`.
    pub role: &'static str,
    /// Whether a candidate only asks for pre-votes so far.
    pub pre_vote: bool,
    /// Its term.
    pub term: u64,
    /// Whom it follows.
    pub leader: Option<Peer>,
    /// How many nodes vote, as far as it knows.
    pub voters: usize,
    /// What it knows to be committed.
    pub commit: u64,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its kind, in the words of the paper: `append_entries`, `request_vote_reply`.
    pub kind: &'static str,
    /// Its term.
    pub term: u64,
    /// The rest, by name.
    pub facts: Vec<(&'static str, Fact)>,
}

/// A value in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A number.
    Number(u64),
    /// A yes or no.
    Flag(bool),
    /// One of a few words.
    Word(&'static str),
    /// Log entries.
    Entries(Vec<EntryLabel>),
}

/// An entry of the log, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLabel {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// `command`, `noop`, `configuration`.
    pub kind: &'static str,
    /// The command as text, or the members, learners with a question mark.
    pub data: Option<String>,
}

impl EntryLabel {
    /// Shows an entry.
    pub fn new(entry: &Entry) -> Self {
        let (kind, data) = match &entry.payload {
            Payload::Noop => ("noop", None),
            Payload::Configuration(configuration) => {
                let members = configuration.members().iter();
                let member = |(id, member): (&NodeId, &Member)| format!("{id}{}", if member.voter { "" } else { "?" });
                ("configuration", Some(members.map(member).collect::<Vec<_>>().join(" ")))
            }
            Payload::Command(bytes) => ("command", Some(String::from_utf8_lossy(bytes).into_owned())),
        };
        Self { index: entry.position.index.0, term: entry.position.term.0, kind, data }
    }
}

/// What a script may call a message of Raft: its kind, or `heartbeat`.
pub const RAFT_MESSAGES: &[&str] = &[
    "pre_vote",
    "pre_vote_reply",
    "request_vote",
    "request_vote_reply",
    "append_entries",
    "append_entries_reply",
    "heartbeat",
    "read_index",
    "read_index_reply",
    "install_snapshot",
    "install_snapshot_reply",
    "timeout_now",
];

impl Label {
    /// Whether it is called so.
    pub fn is(&self, name: &str) -> bool {
        if name == "heartbeat" { self.is_heartbeat() } else { self.kind == name }
    }

    /// Whether it is an append without entries.
    pub fn is_heartbeat(&self) -> bool {
        self.kind == "append_entries" && self.facts.contains(&("entries", Fact::Entries(Vec::new())))
    }
}

impl Observable for Raft {
    fn look(&self) -> Look<Self::Peer> {
        Look {
            role: self.role().as_str(),
            pre_vote: self.role() == RoleName::PreCandidate,
            term: self.hard_state().current_term.0,
            leader: self.leader(),
            voters: self.configuration().voters().count(),
            commit: self.commit_index().0,
        }
    }

    fn label(message: &raft::Message) -> Label {
        let (kind, facts) = match &message.body {
            Body::RequestVote { ballot, last, transfer } => {
                let mut facts = place("last_index", "last_term", *last).to_vec();
                facts.extend(transfer.then_some(("transfer", Fact::Flag(true))));
                let kind = match ballot {
                    Ballot::PreVote => "pre_vote",
                    Ballot::Vote => "request_vote",
                };
                (kind, facts)
            }
            Body::Vote { ballot, granted } => (
                match ballot {
                    Ballot::PreVote => "pre_vote_reply",
                    Ballot::Vote => "request_vote_reply",
                },
                vec![("granted", Fact::Flag(*granted))],
            ),
            Body::Append(append) => {
                let mut facts = place("prev_index", "prev_term", append.prev).to_vec();
                facts.push(("entries", Fact::Entries(append.entries.iter().map(EntryLabel::new).collect())));
                facts.push(("commit", Fact::Number(append.commit.0)));
                ("append_entries", facts)
            }
            Body::Appended { outcome, .. } => (
                "append_entries_reply",
                match outcome {
                    AppendOutcome::Matched(index) => {
                        vec![("success", Fact::Flag(true)), ("match_index", Fact::Number(index.0))]
                    }
                    AppendOutcome::Conflict { prev, first, .. } => vec![
                        ("success", Fact::Flag(false)),
                        ("prev_index", Fact::Number(prev.index.0)),
                        ("try_index", Fact::Number(first.0)),
                    ],
                },
            ),
            Body::ReadIndex { .. } => ("read_index", Vec::new()),
            Body::ReadIndexIs { index, .. } => ("read_index_reply", vec![("index", Fact::Number(index.0))]),
            Body::InstallSnapshot(InstallSnapshot { last, number, done, .. }) => {
                let mut facts = place("last_index", "last_term", *last).to_vec();
                facts.extend([("chunk", Fact::Number(*number)), ("done", Fact::Flag(*done))]);
                ("install_snapshot", facts)
            }
            Body::Installing { last, next } => {
                let mut facts = place("last_index", "last_term", *last).to_vec();
                facts.push(("next_chunk", Fact::Number(*next)));
                ("install_snapshot_reply", facts)
            }
            Body::TimeoutNow => ("timeout_now", Vec::new()),
            Body::Heartbeat { .. } => ("heartbeat", Vec::new()),
            Body::HeartbeatReply { .. } => ("heartbeat_reply", Vec::new()),
        };
        Label { kind, term: message.term.0, facts }
    }
}

fn place(index: &'static str, term: &'static str, position: Position) -> [(&'static str, Fact); 2] {
    [(index, Fact::Number(position.index.0)), (term, Fact::Number(position.term.0))]
}

impl Observable for RaftKv {
    fn look(&self) -> Look<Self::Peer> {
        self.raft().look()
    }

    fn label(message: &raft_kv::Message) -> Label {
        match message {
            raft_kv::Message::Raft(message) => Raft::label(message),
            raft_kv::Message::Forward { id, term, .. } => {
                Label { kind: "forward", term: term.0, facts: vec![("request", Fact::Number(id.0))] }
            }
            raft_kv::Message::Administer { id, term, .. } => {
                Label { kind: "administer", term: term.0, facts: vec![("request", Fact::Number(id.0))] }
            }
            raft_kv::Message::Forwarded { id, term, result } => {
                let result = match result {
                    Forwarding::Applied(_) => "applied",
                    Forwarding::NotLeader => "not_leader",
                    Forwarding::Overloaded => "overloaded",
                    Forwarding::Done => "done",
                    Forwarding::Refused(_) => "refused",
                };
                let facts = vec![("request", Fact::Number(id.0)), ("result", Fact::Word(result))];
                Label { kind: "forward_reply", term: term.0, facts }
            }
        }
    }
}
