//! The snapshots of a node: its own, those it sends and receives, and backups.
//!
//! All are read off [views](crate::kv::view) of the state, a chunk at a time between other inputs, so that writes go on.
//! A node writes one of its own when so many bytes have been applied since the last: a number that is given, but at least
//! half of what the last snapshot had, so that a large state is not written over and over for a few changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use super::{Answer, Event, OpenedView, Origin, RaftKv, RequestError, RequestId, Timer};
use crate::defaults::{BACKUP_PATIENCE, MAX_BACKUPS, SNAPSHOT_PAUSE};
use crate::kv::changes::Changes;
use crate::kv::command;
use crate::kv::restore::Restorer;
use crate::kv::snapshot::SnapshotError;
use crate::kv::state::State;
use crate::kv::view::ViewId;
use crate::node_id::NodeId;
use crate::protocol::{Effects, Input, Time};
use crate::raft::{self, Body, Config, ConfigError, InstallSnapshot, Position, Raft, Record, Recovered, Term};

/// What a node has in hand of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Bytes applied between two of its own.
    every: u64,
    applied: u64,
    /// Bytes of the latest one.
    latest: u64,
    own: Option<Own>,
    /// Those on their way to followers.
    installs: BTreeMap<NodeId, Install>,
    /// The one on its way from the leader.
    incoming: Option<Incoming>,
    /// In which term one was refused last.
    refused: Option<Term>,
    /// Views that backups read, and when they were last used.
    backups: BTreeMap<ViewId, Time>,
}

/// A snapshot being written into the log.
#[derive(Debug)]
struct Own {
    view: ViewId,
    bytes: u64,
    /// Who asked for it.
    waiting: Vec<RequestId>,
}

#[derive(Debug)]
struct Install {
    view: ViewId,
    /// The part to be offered next, and its data, read ahead to know which part is the last.
    number: u64,
    data: Option<Bytes>,
}

/// What came of the leader's snapshot.
#[derive(Debug, Default)]
struct Incoming {
    parts: u64,
    bytes: u64,
    restorer: Restorer,
    /// What its last part made of it.
    state: Option<State>,
}

impl Incoming {
    fn take(&mut self, part: &InstallSnapshot) -> Result<(), SnapshotError> {
        self.parts += 1;
        self.bytes += part.data.len() as u64;
        self.restorer.push(part.data.clone())?;
        if part.done {
            self.state = Some(std::mem::take(&mut self.restorer).finish()?);
        }
        Ok(())
    }
}

impl Snapshots {
    const fn new(every: u64, latest: u64) -> Self {
        Self {
            every,
            applied: 0,
            latest,
            own: None,
            installs: BTreeMap::new(),
            incoming: None,
            refused: None,
            backups: BTreeMap::new(),
        }
    }

    /// A command of `size` bytes has been applied.
    pub(super) const fn applied(&mut self, size: usize) {
        self.applied += size as u64;
    }

    fn is_due(&self) -> bool {
        self.applied >= self.every.max(self.latest / 2)
    }

    /// Closes the views of backups that nobody reads any more; when that is next to be done.
    pub(super) fn close_late_backups(&mut self, now: Time, state: &mut State) -> Option<Time> {
        for (view, _) in self.backups.extract_if(.., |_, used| now.since(*used) >= BACKUP_PATIENCE) {
            state.close_view(view);
        }
        self.backups.values().min().map(|used| *used + BACKUP_PATIENCE)
    }
}

/// This node's own snapshot.
impl RaftKv {
    pub(super) fn begin_snapshot_if_due(&mut self, now: Time, out: &mut Effects<Self>) {
        if self.snapshots.is_due() && !self.raft.is_taking_snapshot() {
            self.begin_snapshot(now, Vec::new(), out);
        }
    }

    fn begin_snapshot(&mut self, now: Time, waiting: Vec<RequestId>, out: &mut Effects<Self>) {
        self.snapshots.applied = 0;
        self.step_raft(now, Input::Requested(raft::Command::BeginSnapshot), out);
        let view = self.state.open_view();
        self.snapshots.own = Some(Own { view, bytes: 0, waiting });
        out.set_timer(Timer::Snapshot, SNAPSHOT_PAUSE..=SNAPSHOT_PAUSE);
    }

    /// Somebody wants one now.
    pub(super) fn ask_snapshot(&mut self, now: Time, id: RequestId, out: &mut Effects<Self>) {
        match &mut self.snapshots.own {
            Some(own) => own.waiting.push(id),
            None if self.raft.is_taking_snapshot() => {
                out.emit(Event::Answered { id, answer: Err(RequestError::Overloaded) });
            }
            None => self.begin_snapshot(now, vec![id], out),
        }
    }

    pub(super) fn go_on_with_snapshot(&mut self, now: Time, out: &mut Effects<Self>) {
        let Some(own) = &mut self.snapshots.own else { return };
        match self.state.next_chunk(own.view) {
            Some(chunk) => {
                own.bytes += chunk.len() as u64;
                self.step_raft(now, Input::Requested(raft::Command::SnapshotChunk(chunk)), out);
                out.set_timer(Timer::Snapshot, SNAPSHOT_PAUSE..=SNAPSHOT_PAUSE);
            }
            None => {
                self.step_raft(now, Input::Requested(raft::Command::EndSnapshot), out);
                if let Some(Own { view, bytes, waiting }) = self.snapshots.own.take() {
                    self.state.close_view(view);
                    self.snapshots.latest = bytes;
                    waiting.into_iter().for_each(|id| out.emit(Event::Answered { id, answer: Ok(Answer::Done) }));
                }
            }
        }
    }

    /// The leader sends one that is newer.
    fn give_up_own(&mut self, out: &mut Effects<Self>) {
        if let Some(own) = self.snapshots.own.take() {
            self.state.close_view(own.view);
            own.waiting
                .into_iter()
                .for_each(|id| out.emit(Event::Answered { id, answer: Err(RequestError::Overloaded) }));
        }
    }
}

/// Snapshots to followers.
impl RaftKv {
    pub(super) fn offer_chunk(&mut self, now: Time, to: NodeId, number: u64, out: &mut Effects<Self>) {
        if number == 0 {
            self.close_install(to);
            let view = self.state.open_view();
            let data = self.state.next_chunk(view);
            self.snapshots.installs.insert(to, Install { view, number: 0, data });
        }
        let Some(install) = self.snapshots.installs.get_mut(&to).filter(|install| install.number == number) else {
            return;
        };
        let Some(data) = install.data.take() else { return };
        install.number += 1;
        install.data = self.state.next_chunk(install.view);
        let done = install.data.is_none();
        self.step_raft(now, Input::Requested(raft::Command::OfferChunk { to, number, data, done }), out);
    }

    /// The leader has given up the snapshot that it was sending, or this node leads itself: what came of it is let go.
    pub(super) fn forget_incoming(&mut self) {
        if !self.raft.is_taking_snapshot() {
            self.snapshots.incoming = None;
        }
    }

    pub(super) fn close_install(&mut self, to: NodeId) {
        if let Some(install) = self.snapshots.installs.remove(&to) {
            self.state.close_view(install.view);
        }
    }
}

/// Snapshots from the leader.
impl RaftKv {
    /// Looks at the part of a snapshot that Raft would take next, before anything is durable or answered. False when nothing
    /// can be made of it: what came of that snapshot is forgotten, and none is taken any more in this term, so that the log does
    /// not fill with what is refused again.
    pub(super) fn can_read(
        &mut self,
        now: Time,
        from: NodeId,
        message: &raft::Message,
        out: &mut Effects<Self>,
    ) -> bool {
        let Body::InstallSnapshot(part) = &message.body else { return true };
        if self.snapshots.refused == Some(message.term) {
            return false;
        }
        if !self.raft.would_take_part(from, message) {
            return true;
        }
        if part.number == 0 {
            self.snapshots.incoming = None;
        }
        match self.snapshots.incoming.get_or_insert_default().take(part) {
            Ok(()) => true,
            Err(why) => {
                self.step_raft(now, Input::Requested(raft::Command::GiveUpInstall), out);
                self.snapshots.incoming = None;
                self.snapshots.refused = Some(message.term);
                out.emit(Event::SnapshotRefused { from, why });
                false
            }
        }
    }

    /// Raft has taken a part.
    pub(super) fn on_chunk(&mut self, number: u64, out: &mut Effects<Self>) {
        let parts = self.snapshots.incoming.as_ref().map(|incoming| incoming.parts);
        assert_eq!(parts, Some(number + 1), "what Raft takes has been read before");
        if number == 0 {
            self.give_up_own(out);
        }
    }

    /// The state up to `last` is what has come.
    pub(super) fn restore(&mut self, last: Position, out: &mut Effects<Self>) {
        let Incoming { bytes, state, .. } = self.snapshots.incoming.take().expect("its parts have come");
        let state = state.expect("its last part has come");
        self.state.replace(state);
        self.changes = Changes::starting_after(self.store().version());
        (self.snapshots.applied, self.snapshots.latest) = (0, bytes);
        // Their views were of the state that is gone.
        self.snapshots.installs.clear();
        self.snapshots.backups.clear();
        let later = self.proposed.split_off(&last.index.next());
        for (_, (_, origin)) in std::mem::replace(&mut self.proposed, later) {
            if let Origin::Local(id) = origin {
                self.outcome_unknown(id, out);
            }
        }
        out.emit(Event::Changed { through: self.store().version() });
    }
}

/// Backups.
impl RaftKv {
    pub(super) fn open_backup(&mut self, now: Time, out: &mut Effects<Self>) -> Result<Answer, RequestError> {
        if self.snapshots.backups.len() >= MAX_BACKUPS {
            return Err(RequestError::Overloaded);
        }
        let id = self.state.open_view();
        self.snapshots.backups.insert(id, now);
        self.ring_at(now, now + BACKUP_PATIENCE, out);
        let (through, last) = (self.raft.last_applied(), self.raft.log().last().index);
        let (version, cluster) = (self.store().version(), self.state.cluster());
        Ok(Answer::View(OpenedView { id, version, cluster, through, last }))
    }

    pub(super) fn next_chunk(&mut self, now: Time, id: RequestId, view: ViewId, out: &mut Effects<Self>) {
        let answer = match self.snapshots.backups.get_mut(&view) {
            Some(used) => {
                *used = now;
                let chunk = self.state.next_chunk(view);
                if chunk.is_none() {
                    self.forget_backup(view);
                }
                Ok(Answer::Chunk(chunk))
            }
            None => Err(RequestError::ViewClosed),
        };
        out.emit(Event::Answered { id, answer });
    }

    pub(super) fn close_backup(&mut self, id: RequestId, view: ViewId, out: &mut Effects<Self>) {
        self.forget_backup(view);
        out.emit(Event::Answered { id, answer: Ok(Answer::Done) });
    }

    fn forget_backup(&mut self, view: ViewId) {
        if self.snapshots.backups.remove(&view).is_some() {
            self.state.close_view(view);
        }
    }
}

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
    pub fn into_state(self, through: raft::Index) -> Result<State, command::DecodeError> {
        let Self { raft, mut state, .. } = self;
        for entry in raft.log().between(raft.last_applied(), through.max(raft.last_applied())) {
            if let raft::Payload::Command(bytes) = entry.payload {
                state.apply(command::SessionRequest::decode(bytes)?);
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
