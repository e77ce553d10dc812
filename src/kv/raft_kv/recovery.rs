//! A node from its records.

use bytes::Bytes;
use thiserror::Error;

use super::node::RaftKv;
use super::snapshots::Snapshots;
use crate::kv::command::{DecodeError, SessionRequest};
use crate::kv::restore::Restorer;
use crate::kv::snapshot::SnapshotError;
use crate::kv::state::State;
use crate::raft::{self, Config, ConfigError, Raft, Record, Recovered};

/// A node from its records, oldest first.
///
/// Of the snapshots among them it keeps the parts of one only: there is rarely a second one that is whole, since the log then
/// begins with that, but often one that was being written when the node ended.
#[derive(Debug)]
pub struct Recovery {
    raft: raft::Recovery,
    state: State,
    /// The number of the snapshot whose parts are kept, from 1, and how many have begun.
    kept: usize,
    begun: usize,
    parts: Vec<Bytes>,
    /// Bytes of the snapshot that is kept.
    bytes: u64,
    /// The number of the latest snapshot that is whole.
    whole: Option<usize>,
}

/// Records that make no node.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// Raft does not take them.
    #[error("{0}")]
    Raft(#[from] ConfigError),
    /// A snapshot among them is not understood.
    #[error("the snapshot in the log: {0}")]
    Snapshot(#[from] SnapshotError),
}

impl Recovery {
    /// Before the first record, in a cluster that began with the members `initial`. Keeps the parts of the first snapshot.
    pub fn new(initial: raft::Configuration) -> Self {
        let raft = raft::Recovery::new(initial);
        Self { raft, state: State::default(), kept: 1, begun: 0, parts: Vec::new(), bytes: 0, whole: None }
    }

    /// The same, for the parts of the snapshot that [`Recovery::lacks`].
    pub fn keeping(initial: raft::Configuration, snapshot: usize) -> Self {
        Self { kept: snapshot, ..Self::new(initial) }
    }

    /// The next record.
    ///
    /// # Errors
    /// When it is of a snapshot of another format, or none. The recovery is of no use after that.
    pub fn push(&mut self, record: Record) -> Result<(), SnapshotError> {
        match self.raft.push(record) {
            Recovered::Nothing => {}
            Recovered::Begun => {
                self.begun += 1;
                self.parts.clear(); // of one that did not get whole
            }
            Recovered::Chunk(data) => {
                if self.begun == self.kept {
                    self.bytes += data.len() as u64;
                    self.parts.push(data);
                }
            }
            Recovered::Whole => {
                self.whole = Some(self.begun);
                if self.begun == self.kept {
                    let mut restorer = Restorer::default();
                    std::mem::take(&mut self.parts).into_iter().try_for_each(|part| restorer.push(part))?;
                    self.state = restorer.finish()?;
                }
            }
        }
        Ok(())
    }

    /// After the last record: the number of the snapshot that the node needs, if its parts were not kept. Then all records
    /// are to be read once more.
    pub fn lacks(&self) -> Option<usize> {
        self.whole.filter(|whole| *whole != self.kept)
    }

    /// The node, which writes a snapshot every so many applied bytes.
    ///
    /// # Panics
    /// When it [lacks](Recovery::lacks) a snapshot.
    ///
    /// # Errors
    /// When the records are not those of a whole log, or `config` cannot work.
    pub fn finish(self, config: Config, snapshot_every: u64) -> Result<RaftKv, RecoverError> {
        assert_eq!(self.lacks(), None, "the state is another snapshot");
        let raft = Raft::recovered(config, self.raft)?;
        let latest = self.whole.map_or(0, |_| self.bytes);
        Ok(RaftKv::new(raft, self.state, Snapshots::new(snapshot_every, latest)))
    }
}

impl RaftKv {
    /// What the state is once all entries of the log up to `through` have been carried out, committed or not: for those who
    /// have lost whoever could tell. The node is not to be used any more.
    ///
    /// # Errors
    /// When an entry is not understood.
    pub fn into_state(self, through: raft::Index) -> Result<State, DecodeError> {
        let Self { raft, mut state, .. } = self;
        for entry in raft.log().between(raft.last_applied(), through.max(raft.last_applied())) {
            if let raft::Payload::Command(bytes) = entry.payload {
                state.apply(SessionRequest::decode(bytes)?);
            }
        }
        Ok(state)
    }

    /// A node from all its records at once.
    ///
    /// # Errors
    /// Those of [`Recovery`].
    pub fn recover(
        config: Config,
        snapshot_every: u64,
        records: impl IntoIterator<Item = Record> + Clone,
    ) -> Result<Self, RecoverError> {
        let mut recovery = Recovery::new(config.initial.clone());
        records.clone().into_iter().try_for_each(|record| recovery.push(record))?;
        if let Some(snapshot) = recovery.lacks() {
            recovery = Recovery::keeping(config.initial.clone(), snapshot);
            records.into_iter().try_for_each(|record| recovery.push(record))?;
        }
        recovery.finish(config, snapshot_every)
    }
}
