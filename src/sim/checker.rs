//! What must hold over a whole run, whoever drives it: clusters drawn from a seed, or a script.

use std::collections::BTreeMap;

use crate::raft::{Entry, Index, NodeId, Position, Raft, Record, Term};

/// Remembers a whole run, so that each new fact is checked against everything that ever was.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) leaders: BTreeMap<Term, NodeId>,
    /// Each entry that was ever durable anywhere, with the position before it.
    entries: BTreeMap<Position, (Entry, Position)>,
    /// Each node's durable log, as positions.
    logs: BTreeMap<NodeId, Vec<Position>>,
    pub(super) committed: Vec<Entry>,
    /// For each committed entry, a term in which it was committed at the latest.
    committed_by: Vec<Term>,
    /// How far each node's commit index has been compared with `committed` in its present life.
    compared: BTreeMap<NodeId, Index>,
}

impl Checker {
    pub(super) fn on_leader(&mut self, node: NodeId, term: Term, raft: Option<&Raft>) -> Result<(), String> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            return Err(format!("election safety: {first} and {node} were both elected in {term:?}"));
        }
        let Some(raft) = raft.filter(|raft| raft.hard_state().current_term == term) else { return Ok(()) };
        // What was committed in an earlier term; a leader that hears of its election late may have been overtaken.
        match self.committed_by.iter().rposition(|by| *by < term).map(|place| &self.committed[place]) {
            Some(entry) if !raft.log().contains(entry.position) => {
                Err(format!("leader completeness: {node} leads {term:?} without {:?}", entry.position))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn on_durable(&mut self, node: NodeId, records: &[Record]) -> Result<(), String> {
        let log = self.logs.entry(node).or_default();
        for record in records {
            let Record::Append(entries) = record else { continue };
            for entry in entries {
                log.truncate(entry.position.index.prev().0 as usize);
                let before = log.last().copied().unwrap_or(Position::ORIGIN);
                log.push(entry.position);
                let (known, known_before) = self.entries.entry(entry.position).or_insert((entry.clone(), before));
                if known != entry || *known_before != before {
                    return Err(format!(
                        "log matching: {node} has {entry:?} after {before:?}, not {known:?} after {known_before:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_commit(&mut self, node: NodeId, raft: &Raft) -> Result<(), String> {
        let from = self.compared.entry(node).or_default();
        for entry in raft.log().between(*from, raft.commit_index()) {
            let place = entry.position.index.prev().0 as usize;
            match self.committed.get(place) {
                Some(known) if *known != entry => {
                    return Err(format!("state-machine safety: {node} committed {entry:?}, another node {known:?}"));
                }
                Some(_) => {}
                None => {
                    self.committed.push(entry);
                    self.committed_by.push(raft.hard_state().current_term);
                }
            }
        }
        *from = raft.commit_index();
        Ok(())
    }

    pub(super) fn on_restart(&mut self, node: NodeId) {
        self.compared.remove(&node);
    }
}
