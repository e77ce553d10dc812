//! What must hold over a whole run, whoever drives it: clusters drawn from a seed, or a script.

use std::collections::BTreeMap;

use crate::node_id::NodeId;
use crate::raft::{Entry, Index, Position, Raft, Record, RoleName, Term};

/// Remembers a whole run, so that each new fact is checked against everything that ever was.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub(super) leaders: BTreeMap<Term, NodeId>,
    /// Each entry that was ever durable anywhere, with the position before it.
    entries: BTreeMap<Position, (Entry, Position)>,
    disks: BTreeMap<NodeId, Disk>,
    /// Each committed entry, with a term in which it was committed at the latest.
    pub(super) committed: BTreeMap<Index, (Entry, Term)>,
    /// How far each node's commit index has been compared with `committed` since its latest boot.
    compared: BTreeMap<NodeId, Index>,
}

/// The log on a node's disk, as positions, and the one that a snapshot on its way will replace it with.
#[derive(Debug, Default)]
struct Disk {
    log: Places,
    begun: Option<Places>,
}

/// Positions that follow each other, after a base.
#[derive(Debug, Default)]
struct Places {
    base: Position,
    after: Vec<Position>,
}

impl Checker {
    /// A node was elected; its machine may have gone on since.
    pub(super) fn on_leader(&mut self, node: NodeId, term: Term, raft: Option<&Raft>) -> Result<(), String> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            return Err(format!("election safety: {first} and {node} were both elected in {term:?}"));
        }
        let Some(raft) = raft.filter(|raft| raft.hard_state().current_term == term) else { return Ok(()) };
        // What was committed in an earlier term; a leader that hears of its election late may have been overtaken.
        match self.committed.values().rev().find(|(_, by)| *by < term) {
            Some((entry, _)) if !has(raft, entry.position) => {
                Err(format!("leader completeness: {node} leads {term:?} without {:?}", entry.position))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Records became durable on a node's disk.
    pub(super) fn on_durable(&mut self, node: NodeId, records: &[Record]) -> Result<(), String> {
        for record in records {
            let disk = self.disks.entry(node).or_default();
            match record {
                Record::HardState(_) | Record::SnapshotChunk(_) | Record::Committed(_) => {}
                Record::Append(entries) => {
                    disk.begun.take_if(|begun| !begun.append(entries));
                    disk.log.append(entries);
                    self.know(node, entries)?;
                }
                Record::SnapshotBegin(checkpoint) => {
                    disk.begun = Some(Places { base: checkpoint.last, after: Vec::new() });
                }
                Record::SnapshotTail(entries) => drop(disk.begun.take_if(|begun| !begun.append(entries))),
                Record::SnapshotEnd => {
                    let Some(begun) = disk.begun.take() else { continue };
                    let last = begun.base;
                    disk.log = begun;
                    if let Some((known, _)) =
                        self.committed.get(&last.index).filter(|(known, _)| known.position != last)
                    {
                        let known = known.position;
                        return Err(format!(
                            "state-machine safety: {node} has a snapshot up to {last:?}, committed was {known:?}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn know(&mut self, node: NodeId, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let Some(before) = self.disks[&node].log.at(entry.position.index.prev()) else { continue };
            let (known, known_before) = self.entries.entry(entry.position).or_insert((entry.clone(), before));
            if known != entry || *known_before != before {
                return Err(format!(
                    "log matching: {node} has {entry:?} after {before:?}, not {known:?} after {known_before:?}"
                ));
            }
        }
        Ok(())
    }

    /// A node whose disk has everything may know of more that is committed.
    pub(super) fn on_commit(&mut self, node: NodeId, raft: &Raft) -> Result<(), String> {
        let (base, through) = (raft.log().base(), raft.commit_index());
        let from = self.compared.insert(node, through).unwrap_or_default();
        if through < from {
            return Err(format!("commit never goes back: {node} had committed {from:?}, and now {through:?}"));
        }
        if from < base.index
            && let Some((known, _)) = self.committed.get(&base.index).filter(|(known, _)| known.position != base)
        {
            let known = known.position;
            return Err(format!("state-machine safety: {node} begins after {base:?}, another node after {known:?}"));
        }
        for entry in raft.log().between(from.max(base.index), through) {
            match self.committed.get(&entry.position.index) {
                Some((known, _)) if *known != entry => {
                    return Err(format!("state-machine safety: {node} committed {entry:?}, another node {known:?}"));
                }
                Some(_) => {}
                None => {
                    self.check_durable(node, raft, entry.position)?;
                    self.committed.insert(entry.position.index, (entry, raft.hard_state().current_term));
                }
            }
        }
        Ok(())
    }

    /// What a leader takes for committed is on the disks of a majority (Raft, Figure 2: respond to RPCs after updating
    /// stable storage). The members may have changed once since it was.
    fn check_durable(&self, node: NodeId, raft: &Raft, entry: Position) -> Result<(), String> {
        if raft.role() != RoleName::Leader {
            return Ok(());
        }
        let disks = self.disks.iter().filter(|(_, disk)| disk.log.has(entry)).map(|(id, _)| *id).collect();
        if raft.configuration().is_majority(&disks) || raft.log().configuration_at(entry.index).is_majority(&disks) {
            return Ok(());
        }
        Err(format!("durability: {node} has committed {entry:?}, which only the disks of {disks:?} have"))
    }

    /// A node lost its disk, and with it what it knew.
    pub(super) fn on_wiped(&mut self, node: NodeId) {
        self.disks.remove(&node);
        self.on_restart(node);
    }

    /// A node stopped or started: it knows nothing of what is committed.
    pub(super) fn on_restart(&mut self, node: NodeId) {
        self.compared.remove(&node);
    }
}

/// Whether the log has an entry, or had it before a snapshot took its place.
fn has(raft: &Raft, position: Position) -> bool {
    position.index < raft.log().base().index || raft.log().contains(position)
}

impl Places {
    fn at(&self, index: Index) -> Option<Position> {
        match index.0.checked_sub(self.base.index.0)? {
            0 => Some(self.base),
            place => self.after.get(place as usize - 1).copied(),
        }
    }

    /// What a snapshot replaced counts as there.
    fn has(&self, position: Position) -> bool {
        position.index < self.base.index || self.at(position.index) == Some(position)
    }

    /// Replaces what stood at the first entry's place and beyond. False when there is a gap before it.
    fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first() else { return true };
        let Some(place) = first.position.index.0.checked_sub(self.base.index.0 + 1) else { return false };
        if place as usize > self.after.len() {
            return false;
        }
        self.after.truncate(place as usize);
        self.after.extend(entries.iter().map(|entry| entry.position));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Effect, Effects, Input, Protocol, Time};
    use crate::raft::{Checkpoint, Config, Configuration, HardState, Payload};

    fn n(number: usize) -> NodeId {
        NodeId::numbered(number)
    }

    fn at(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn entry(term: u64, index: u64, text: &'static str) -> Entry {
        Entry { position: at(term, index), payload: Payload::Command(text.into()) }
    }

    /// A node alone, which leads and has committed its first entry; and the records that this takes.
    fn alone() -> (Raft, Vec<Record>) {
        let mut raft = Raft::recover(Config::new(n(1), 0, [n(1)]), []).unwrap();
        let mut effects = Effects::new();
        raft.step(Time::after_epoch(Duration::from_secs(1)), Input::Started, &mut effects);
        let records = effects.drain().filter_map(|effect| match effect {
            Effect::Persist(record) => Some(record),
            Effect::Send { .. }
            | Effect::Meanwhile { .. }
            | Effect::SetTimer(..)
            | Effect::CancelTimer(_)
            | Effect::Emit(_)
            | Effect::EmitAtOnce(_) => None,
        });
        (raft, records.collect())
    }

    #[track_caller]
    fn violates(result: Result<(), String>, property: &str) {
        let what = result.expect_err(property);
        assert!(what.starts_with(property), "{what}");
    }

    #[test]
    fn two_leaders_of_a_term_are_found_however_long_ago_the_first_one_led() {
        let mut checker = Checker::default();
        for (node, term) in [(1, 1), (2, 2), (1, 1), (1, 3)] {
            assert_eq!(checker.on_leader(n(node), Term(term), None), Ok(()));
        }
        violates(checker.on_leader(n(3), Term(2), None), "election safety");
    }

    #[test]
    fn an_entry_that_names_another_payload_or_another_past_is_found() {
        let append = |entries: &[Entry]| [Record::Append(entries.to_vec())];
        let mut checker = Checker::default();
        assert_eq!(checker.on_durable(n(1), &append(&[entry(1, 1, "a"), entry(2, 2, "b")])), Ok(()));
        assert_eq!(checker.on_durable(n(2), &append(&[entry(1, 1, "a")])), Ok(()));
        violates(checker.on_durable(n(3), &append(&[entry(1, 1, "c")])), "log matching");
        violates(checker.on_durable(n(4), &append(&[entry(2, 1, "d"), entry(2, 2, "b")])), "log matching");
    }

    #[test]
    fn what_is_committed_before_a_majority_of_disks_has_it_is_found() {
        let (raft, records) = alone();
        violates(Checker::default().on_commit(n(1), &raft), "durability");
        let mut checker = Checker::default();
        assert_eq!(checker.on_durable(n(1), &records), Ok(()));
        assert_eq!(checker.on_commit(n(1), &raft), Ok(()));
    }

    #[test]
    fn a_commit_index_that_goes_back_is_found_and_a_restart_is_none() {
        let (raft, records) = alone();
        let empty = Raft::recover(Config::new(n(1), 0, [n(1)]), []).unwrap();
        let mut checker = Checker::default();
        assert_eq!(checker.on_durable(n(1), &records), Ok(()));
        assert_eq!(checker.on_commit(n(1), &raft), Ok(()));
        violates(checker.on_commit(n(1), &empty), "commit never goes back");
        checker.on_restart(n(1));
        assert_eq!(checker.on_commit(n(1), &empty), Ok(()));
    }

    #[test]
    fn a_snapshot_of_something_else_than_was_committed_is_found() {
        let (raft, records) = alone();
        let mut checker = Checker::default();
        assert_eq!(checker.on_durable(n(1), &records), Ok(()));
        assert_eq!(checker.on_commit(n(1), &raft), Ok(()));
        let snapshot = |last| {
            let configuration = Configuration::of_voters([n(1)]);
            let checkpoint = Checkpoint { hard_state: HardState::default(), last, configuration };
            [Record::SnapshotBegin(checkpoint), Record::SnapshotEnd]
        };
        assert_eq!(checker.on_durable(n(2), &snapshot(at(1, 1))), Ok(()));
        violates(checker.on_durable(n(3), &snapshot(at(7, 1))), "state-machine safety");
    }
}
