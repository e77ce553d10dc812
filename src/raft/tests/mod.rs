//! The paper's rules, one test each, on a single machine: an input goes in, the effects are read.

#![expect(clippy::wildcard_enum_match_arm, reason = "each helper picks one kind of effect out of many")]

mod applying;
mod configuration;
mod elections;
mod hostile_peers;
mod members;
mod patience;
mod reads;
mod replication;
mod snapshots;
mod transfer;

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::protocol::testing::{self, Bench};

const ME: usize = 1;

/// A node with its time.
type Node = Bench<Raft>;

type Did = testing::Did<Raft>;

impl Node {
    /// One of `members` nodes, started with `records`.
    fn with(members: usize, records: Vec<Record>) -> Self {
        let config = Config::new(n(ME), 0, (1..=members).map(n));
        Self::start(Raft::recover(config, records).unwrap())
    }

    /// One of three nodes, with a log of these terms, in `term`.
    fn with_log(term: u64, terms: &[u64]) -> Self {
        Self::with(3, vec![hard(term, None), Record::Append(entries(1, terms))])
    }

    /// A leader of three nodes in `term`, whose log has `terms` and its own first entry.
    fn leader(term: u64, terms: &[u64]) -> Self {
        let mut node = Self::with_log(term - 1, terms);
        node.elect();
        assert_eq!((node.machine.role(), node.machine.term()), (RoleName::Leader, Term(term)));
        node
    }

    fn elect(&mut self) -> Did {
        self.fire(Timer::Election);
        let term = self.machine.term().next().0;
        self.hear(2, term, Body::Vote { ballot: Ballot::PreVote, granted: true });
        self.hear(2, term, Body::Vote { ballot: Ballot::Vote, granted: true })
    }

    fn hear(&mut self, from: usize, term: u64, body: Body) -> Did {
        self.step(Input::Received { from: n(from), message: Message { term: Term(term), body } })
    }

    fn append(&mut self, from: usize, term: u64, prev: (u64, u64), terms: &[u64], commit: u64) -> Did {
        let entries = entries(prev.1 + 1, terms);
        let append = Append { prev: at(prev.0, prev.1), entries, commit: Index(commit), round: Round(0) };
        self.hear(from, term, Body::Append(append))
    }

    fn matched(&mut self, from: usize, term: u64, index: u64) -> Did {
        self.hear(from, term, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(Index(index)) })
    }

    fn propose(&mut self, text: &'static str) -> Did {
        let command = Command::Propose { ticket: Ticket(7), command: Bytes::from_static(text.as_bytes()) };
        self.step(Input::Requested(command))
    }

    fn log_terms(&self) -> Vec<u64> {
        (1..=self.machine.log.last().index.0).map(|i| self.machine.log.get(Index(i)).unwrap().position.term.0).collect()
    }
}

impl Did {
    fn votes(&self) -> Vec<(NodeId, bool)> {
        let vote = |(to, message): &(NodeId, Message)| match message.body {
            Body::Vote { granted, .. } => Some((*to, granted)),
            _ => None,
        };
        self.sent.iter().filter_map(vote).collect()
    }

    fn outcomes(&self) -> Vec<AppendOutcome> {
        let outcome = |(_, message): &(NodeId, Message)| match message.body {
            Body::Appended { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.sent.iter().filter_map(outcome).collect()
    }

    fn appends(&self) -> Vec<(NodeId, Append)> {
        let append = |(to, message): &(NodeId, Message)| match &message.body {
            Body::Append(append) => Some((*to, append.clone())),
            _ => None,
        };
        self.sent.iter().filter_map(append).collect()
    }

    fn committed(&self) -> Vec<Index> {
        let committed = |event: &Event| match event {
            Event::Committed(entries) => entries.iter().map(|entry| entry.position.index).collect(),
            _ => Vec::new(),
        };
        self.told.iter().flat_map(committed).collect()
    }

    fn dropped(&self) -> usize {
        let dropped = |event: &Event| if let Event::Dropped { tickets } = event { tickets.len() } else { 0 };
        self.told.iter().map(dropped).sum()
    }
}

fn n(number: usize) -> NodeId {
    NodeId::numbered(number)
}

fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    let positions = terms.iter().zip(first..).map(|(term, index)| at(*term, index));
    positions.map(|position| Entry { position, payload: Payload::Noop }).collect()
}

fn hard(term: u64, vote: Option<usize>) -> Record {
    Record::HardState(HardState { current_term: Term(term), voted_for: vote.map(n) })
}

fn request(ballot: Ballot, last: (u64, u64)) -> Body {
    Body::RequestVote { ballot, last: at(last.0, last.1), transfer: false }
}
