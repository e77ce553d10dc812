//! What instruments see of Raft.

use serde::Serialize;
use serde_json::{Value, json};

use crate::kv::raft_kv::{self, Forwarding, RaftKv};
use crate::node_id::NodeId;
use crate::raft::{
    self, AppendOutcome, Ballot, Body, Entry, InstallSnapshot, Member, Payload, Position, Raft, RoleName,
};
use crate::sim::observe::{Facts, Label, Look, Observable, facts};

/// An entry of the log, to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryLabel {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The command as text, or the members, learners with a question mark.
    pub data: Option<String>,
    /// `command`, `noop`, `configuration`.
    pub kind: &'static str,
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
        Self { index: entry.position.index.0, term: entry.position.term.0, data, kind }
    }
}

/// What a script may call a message: its type, or `heartbeat`.
pub const MESSAGE_TYPES: &[&str] = &[
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

/// Whether a script may call a message so: an append without entries is a `heartbeat`, too.
pub(super) fn is_called(message: &raft::Message, name: &str) -> bool {
    match &message.body {
        Body::Append(append) if name == "heartbeat" => append.entries.is_empty(),
        _ => name != "heartbeat" && Raft::label(message).kind == name,
    }
}

/// `follower`, `candidate` or `leader`, and what else may be seen of a role: whether a candidate only asks for pre-votes so
/// far, whom it follows, how many nodes vote as far as it knows.
fn role(raft: &Raft, number: impl Fn(NodeId) -> usize) -> Facts {
    let mut role = facts([
        ("state", json!(raft.role().as_str())),
        ("term", json!(raft.hard_state().current_term.0)),
        ("leader", json!(raft.leader().map(number))),
        ("voters", json!(raft.configuration().voters().count())),
    ]);
    if raft.role() == RoleName::PreCandidate {
        role.insert("pre_vote".to_owned(), json!(true));
    }
    role
}

impl Observable for Raft {
    fn looks(&self, number: impl Fn(NodeId) -> usize) -> Vec<Look> {
        let mut looks = vec![Look::new("role", role(self, number))];
        let commit = self.commit_index().0;
        if commit > 0 {
            looks.push(Look::new("commit", facts([("commit", json!(commit))])));
        }
        looks
    }

    fn label(message: &raft::Message) -> Label {
        let (kind, said) = match &message.body {
            Body::RequestVote { ballot, last, transfer } => {
                let mut said = place("last_index", "last_term", *last).to_vec();
                said.extend(transfer.then_some(("transfer", json!(true))));
                let kind = match ballot {
                    Ballot::PreVote => "pre_vote",
                    Ballot::Vote => "request_vote",
                };
                (kind, said)
            }
            Body::Vote { ballot, granted } => (
                match ballot {
                    Ballot::PreVote => "pre_vote_reply",
                    Ballot::Vote => "request_vote_reply",
                },
                vec![("granted", json!(granted))],
            ),
            Body::Append(append) => {
                let mut said = place("prev_index", "prev_term", append.prev).to_vec();
                said.push(("entries", append.entries.iter().map(|entry| json!(EntryLabel::new(entry))).collect()));
                said.push(("commit", json!(append.commit.0)));
                ("append_entries", said)
            }
            Body::Appended { outcome, .. } => (
                "append_entries_reply",
                match outcome {
                    AppendOutcome::Matched(index) => vec![("success", json!(true)), ("match_index", json!(index.0))],
                    AppendOutcome::Conflict { prev, first, .. } => vec![
                        ("success", json!(false)),
                        ("prev_index", json!(prev.index.0)),
                        ("try_index", json!(first.0)),
                    ],
                },
            ),
            Body::ReadIndex { .. } => ("read_index", Vec::new()),
            Body::ReadIndexIs { index, .. } => ("read_index_reply", vec![("index", json!(index.0))]),
            Body::InstallSnapshot(InstallSnapshot { last, number, done, .. }) => {
                let mut said = place("last_index", "last_term", *last).to_vec();
                said.extend([("chunk", json!(number)), ("done", json!(done))]);
                ("install_snapshot", said)
            }
            Body::Installing { last, next } => {
                let mut said = place("last_index", "last_term", *last).to_vec();
                said.push(("next_chunk", json!(next)));
                ("install_snapshot_reply", said)
            }
            Body::TimeoutNow => ("timeout_now", Vec::new()),
            Body::Heartbeat { .. } => ("heartbeat", Vec::new()),
            Body::HeartbeatReply { .. } => ("heartbeat_reply", Vec::new()),
        };
        labelled(kind, message.term, said)
    }
}

fn place(index: &'static str, term: &'static str, position: Position) -> [(&'static str, Value); 2] {
    [(index, json!(position.index.0)), (term, json!(position.term.0))]
}

fn labelled(kind: &'static str, term: raft::Term, said: Vec<(&'static str, Value)>) -> Label {
    Label::new(kind, facts([("term", json!(term.0))].into_iter().chain(said)))
}

impl Observable for RaftKv {
    fn looks(&self, number: impl Fn(NodeId) -> usize) -> Vec<Look> {
        self.raft().looks(number)
    }

    fn label(message: &raft_kv::Message) -> Label {
        match message {
            raft_kv::Message::Raft(message) => Raft::label(message),
            raft_kv::Message::Forward { id, term, .. } => labelled("forward", *term, vec![("request", json!(id.0))]),
            raft_kv::Message::Administer { id, term, .. } => {
                labelled("administer", *term, vec![("request", json!(id.0))])
            }
            raft_kv::Message::Forwarded { id, term, result } => {
                let result = match result {
                    Forwarding::Applied(_) => "applied",
                    Forwarding::NotLeader => "not_leader",
                    Forwarding::Overloaded => "overloaded",
                    Forwarding::Done => "done",
                    Forwarding::Refused(_) => "refused",
                };
                labelled("forward_reply", *term, vec![("request", json!(id.0)), ("result", json!(result))])
            }
        }
    }
}
