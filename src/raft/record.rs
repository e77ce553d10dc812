//! What survives a crash (Raft, Figure 2, "Persistent state on all servers"; thesis §3.8), and how it is recovered.
//!
//! A snapshot is written into the log of records like everything else, in parts, while other records go on between
//! them. On its [`Record::SnapshotBegin`] a second state is begun beside the first; on its [`Record::SnapshotEnd`] that
//! one takes its place, and what came before the beginning is needed no more. A beginning without an end, cut short by a
//! crash or given up, comes to nothing.

use bytes::Bytes;
use thiserror::Error;

use super::configuration::Configuration;
use super::log::Log;
use super::types::{Entry, Index, Position, Term};
use crate::node_id::NodeId;

/// One change of the persistent state. Recovery folds them, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The term or the vote changed.
    HardState(HardState),
    /// These consecutive entries were appended, after whatever stood at the first one's index and beyond was
    /// removed.
    Append(Vec<Entry>),
    /// A snapshot begins.
    SnapshotBegin(Checkpoint),
    /// Entries after the snapshot begun last that the log had before it began; they follow its beginning at once. They
    /// say nothing new of the log as it was, which must not lose its end when only some of them become durable.
    SnapshotTail(Vec<Entry>),
    /// A part of the snapshot begun last.
    SnapshotChunk(Bytes),
    /// The snapshot begun last is whole.
    SnapshotEnd,
    /// All entries up to here are committed. It is written now and then, so the latest commits may be missing.
    Committed(Index),
}

impl Record {
    /// About how many bytes it takes on a disk.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Append(entries) | Self::SnapshotTail(entries) => entries.iter().map(Entry::size).sum(),
            Self::SnapshotChunk(data) => data.len(),
            Self::HardState(_) | Self::SnapshotBegin(_) | Self::SnapshotEnd | Self::Committed(_) => 0,
        }
    }

    /// How many log entries it holds.
    pub const fn entries(&self) -> usize {
        match self {
            Self::Append(entries) | Self::SnapshotTail(entries) => entries.len(),
            Self::HardState(_)
            | Self::SnapshotBegin(_)
            | Self::SnapshotChunk(_)
            | Self::SnapshotEnd
            | Self::Committed(_) => 0,
        }
    }
}

/// The term and the vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct HardState {
    /// Latest term this node has seen.
    pub current_term: Term,
    /// The candidate that received its vote in that term.
    pub voted_for: Option<NodeId>,
}

/// All that a snapshot replaces but the application's state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// The term and the vote when it began.
    pub hard_state: HardState,
    /// The last entry that it replaces.
    pub last: Position,
    /// The members at that entry.
    pub configuration: Configuration,
}

/// The fold over a node's records.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// None when the records begin in the middle, before the snapshot that replaces what is missing is whole.
    state: Option<Stored>,
    begun: Option<Stored>,
    /// The last entry that the records say is committed.
    committed: Index,
}

/// What the records so far come to.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) hard_state: HardState,
    pub(super) log: Log,
}

/// What a record means for the application's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing.
    Nothing,
    /// A snapshot begins: parts follow.
    Begun,
    /// A part of it.
    Chunk(Bytes),
    /// The parts since it began are the state.
    Whole,
}

/// Records that begin in the middle of a log, without the snapshot that would replace what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the log begins in the middle, without a whole snapshot of what came before")]
pub struct Incomplete;

impl Recovery {
    /// Before the first record, in a cluster that began with the members `initial`.
    pub fn new(initial: Configuration) -> Self {
        let log = Log::new(Position::ORIGIN, initial);
        Self { state: Some(Stored { hard_state: HardState::default(), log }), begun: None, committed: Index(0) }
    }

    /// The next record.
    pub fn push(&mut self, record: Record) -> Recovered {
        match record {
            Record::HardState(newer) => {
                for stored in self.state.iter_mut().chain(&mut self.begun) {
                    stored.hard_state = newer;
                }
            }
            Record::Append(entries) => {
                self.begun.take_if(|begun| !begun.append(&entries));
                self.state.take_if(|state| !state.append(&entries));
            }
            Record::SnapshotBegin(Checkpoint { hard_state, last, configuration }) => {
                let hard_state = if cfg!(mutant = "snapshot_forgets_vote") { HardState::default() } else { hard_state };
                self.begun = Some(Stored { hard_state, log: Log::new(last, configuration) });
                if cfg!(mutant = "snapshot_whole_at_its_beginning") {
                    self.state.clone_from(&self.begun);
                }
                return Recovered::Begun;
            }
            Record::SnapshotTail(entries) => drop(self.begun.take_if(|begun| !begun.append(&entries))),
            Record::SnapshotChunk(data) => {
                if self.begun.is_some() {
                    return Recovered::Chunk(data);
                }
            }
            Record::Committed(index) => self.committed = self.committed.max(index),
            Record::SnapshotEnd => {
                if let Some(begun) = self.begun.take() {
                    self.state = Some(begun);
                    return Recovered::Whole;
                }
            }
        }
        Recovered::Nothing
    }

    /// The state, and the last entry of its log that is known to be committed.
    pub(super) fn finish(self) -> Result<(Stored, Index), Incomplete> {
        let state = self.state.ok_or(Incomplete)?;
        let committed = self.committed.clamp(state.log.base().index, state.log.last().index);
        Ok((state, committed))
    }
}

impl Stored {
    /// False when there is a gap before the entries, or when they reach into what a snapshot replaced.
    fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first().map(|entry| entry.position.index) else { return true };
        if first < self.log.first_index() || first > self.log.last().index.next() {
            return false;
        }
        self.log.truncate_from(first);
        entries.iter().for_each(|entry| self.log.push(entry.clone()));
        true
    }
}
