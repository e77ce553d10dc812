//! Snapshots and compaction (Raft §7, Figure 13; thesis §5).
//!
//! Raft does not look into a snapshot: it says what the snapshot replaces and makes its parts durable, in order, as
//! [records](super::record); the application makes the parts and takes them back. To a follower that needs entries which
//! are gone, the leader sends a view of its application as it is, not the snapshot on its disk: the view is newer.
//! One part is on its way at a time, and the follower says which one it wants next.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::configuration::Configuration;
use super::log::Log;
use super::message::{AppendOutcome, Body, Event, InstallSnapshot, Message, Round, Timer};
use super::progress::{Flow, Install, Unanswered};
use super::record::{Checkpoint, Record};
use super::replication::in_parts;
use super::role::Role;
use super::state::{Incoming, Raft, Source};
use super::types::{Index, Position, Term};
use crate::defaults::{APPLY_PAUSE, INSTALL_PATIENCE};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

/// No log gets so long: a snapshot that says otherwise is a mistake, and would leave no room for what follows it.
const MOST_ENTRIES: u64 = 1 << 62;

/// A node's own snapshot.
impl Raft {
    /// Whether a snapshot has begun and is not whole yet.
    pub const fn is_taking_snapshot(&self) -> bool {
        self.incoming.is_some()
    }

    pub(super) fn begin_snapshot(&mut self, out: &mut Effects<Self>) {
        let last = self.log.position(self.last_applied).expect("what was applied last is kept, or the base");
        let configuration = self.log.configuration_at(last.index).clone();
        self.begin_record(last, configuration, Source::Own, out);
    }

    pub(super) fn snapshot_chunk(&self, data: Bytes, out: &mut Effects<Self>) {
        if matches!(self.incoming, Some(Incoming { source: Source::Own, .. })) {
            out.persist(Record::SnapshotChunk(data));
        }
    }

    pub(super) fn end_snapshot(&mut self, out: &mut Effects<Self>) {
        if let Some(Incoming { last, .. }) = self.incoming.take_if(|incoming| incoming.source == Source::Own) {
            out.persist(Record::SnapshotEnd);
            self.snapshot = last;
            self.compact(out);
        }
    }

    fn begin_record(&mut self, last: Position, configuration: Configuration, source: Source, out: &mut Effects<Self>) {
        self.incoming = Some(Incoming { last, source });
        out.persist(Record::SnapshotBegin(Checkpoint { hard_state: self.hard_state, last, configuration }));
        // What was noted before goes with the older records.
        self.noted.through = self.noted.through.min(last.index);
        self.note_soon(out);
        if self.log.contains(last) && !cfg!(mutant = "snapshot_forgets_tail") {
            let tail = self.log.between(last.index, self.log.last().index);
            for part in in_parts(tail, self.config.max_append_bytes) {
                out.persist(Record::SnapshotTail(part));
            }
        }
    }

    /// Forgets entries that the snapshot replaces, but for the latest of them, which spare a follower that is only
    /// a little behind a snapshot of its own, and for those that follow a snapshot on its way. It does so a part at a time:
    /// to give back the memory of a hundred thousand entries takes longer than a write may wait.
    pub(super) fn compact(&mut self, out: &mut Effects<Self>) {
        let mut through = self.snapshot.index;
        let mut bytes = 0;
        while bytes < self.config.retained_bytes
            && let Some(entry) = self.log.get(through)
        {
            bytes += entry.size();
            through = through.prev();
        }
        let through = self.not_on_its_way(through);
        let base = self.log.base().index;
        let part = through.min(Index(base.0 + self.config.apply_batch));
        if part > base {
            self.log.compact(part);
        }
        if part < through {
            out.set_timer(Timer::Compact, APPLY_PAUSE..=APPLY_PAUSE);
        }
    }

    /// Forgets the oldest entries when there are too many of them, whether a snapshot replaces them or not: they are on the
    /// disk until one does.
    pub(super) fn trim(&mut self) {
        let excess = self.log.bytes().saturating_sub(self.config.memory_bytes);
        if excess == 0 {
            return;
        }
        let catching_up = self
            .progress()
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|progress| progress.reachable && !matches!(progress.flow, Flow::Snapshot(_)));
        let needed = catching_up.map(|progress| progress.match_index).fold(self.last_applied, Index::min);
        let (mut through, mut bytes) = (self.log.base().index, 0);
        let most = needed.min(Index(through.0 + self.config.apply_batch));
        while bytes < excess
            && through < most
            && let Some(entry) = self.log.get(through.next())
        {
            bytes += entry.size();
            through = through.next();
        }
        let through = self.not_on_its_way(through);
        if through > self.log.base().index {
            self.log.compact(through);
        }
    }

    /// No further than to where the snapshots end that are on their way to followers.
    fn not_on_its_way(&self, through: Index) -> Index {
        let on_their_way =
            self.progress().into_iter().flat_map(BTreeMap::values).filter_map(|progress| match &progress.flow {
                Flow::Snapshot(install) => install.last.map(|last| last.index),
                Flow::Probe { .. } | Flow::Replicate { .. } => None,
            });
        on_their_way.fold(through, Index::min)
    }
}

/// The leader's half of an install.
impl Raft {
    /// The follower needs entries that are gone. Nothing is sent to one that is not there.
    pub(super) fn begin_install(&mut self, to: NodeId, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to).filter(|progress| progress.reachable) else { return };
        progress.flow = Flow::Snapshot(Install { number: 0, last: None, unanswered: None });
        out.emit(Event::ChunkWanted { to, number: 0 });
    }

    /// The application gives the part that was wanted.
    pub(super) fn offer_chunk(
        &mut self,
        now: Time,
        to: NodeId,
        number: u64,
        data: Bytes,
        done: bool,
        out: &mut Effects<Self>,
    ) {
        let view = self.log.position(self.last_applied).expect("what was applied last is kept, or the base");
        let Some(install) = self.install_of(to) else { return out.emit(Event::ChunksUnwanted { to }) };
        if install.number != number || install.unanswered.is_some() {
            return;
        }
        let last = *if number == 0 { install.last.insert(view) } else { install.last.get_or_insert(view) };
        let configuration = self.log.configuration_at(last.index).clone();
        let part = InstallSnapshot { last, configuration, number, data, done };
        if let Some(install) = self.install_of(to) {
            install.unanswered = Some(Unanswered { part: part.clone(), first: now, last: now });
        }
        self.send(to, Body::InstallSnapshot(part), out);
    }

    /// The follower wants another part: the next one, or the first, if it has lost what it had.
    pub(super) fn on_installing(
        &mut self,
        now: Time,
        from: NodeId,
        last: Position,
        next: u64,
        out: &mut Effects<Self>,
    ) {
        self.hear_from(now, from);
        let Some(install) = self.install_of(from) else { return };
        if install.last != Some(last) || install.unanswered.is_none() || next == install.number {
            return; // a late answer, or one that lost its part: that is sent again in time
        }
        install.number = if next == install.number + 1 { next } else { 0 };
        install.unanswered = None;
        let number = install.number;
        out.emit(Event::ChunkWanted { to: from, number });
    }

    /// Sends again what must have been lost. A follower that is there and does not answer, since it cannot read the snapshot,
    /// must not keep the leader from forgetting entries for ever.
    pub(super) fn repeat_lost_chunk(&mut self, now: Time, to: NodeId, out: &mut Effects<Self>) {
        let patience = *self.config.election_timeout.start();
        let Some(unanswered) = self.install_of(to).and_then(|install| install.unanswered.as_mut()) else { return };
        if now.since(unanswered.first) >= INSTALL_PATIENCE {
            self.give_up_install(to, out);
        } else if now.since(unanswered.last) >= patience {
            unanswered.last = now;
            let part = unanswered.part.clone();
            self.send(to, Body::InstallSnapshot(part), out);
        }
    }

    /// The follower is not there any more, or this node leads no more.
    pub(super) fn give_up_install(&mut self, to: NodeId, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        if matches!(progress.flow, Flow::Snapshot(_)) {
            progress.flow = Flow::Probe { awaiting: false };
            out.emit(Event::ChunksUnwanted { to });
        }
    }

    fn install_of(&mut self, to: NodeId) -> Option<&mut Install> {
        let Role::Leader(leader) = &mut self.role else { return None };
        match &mut leader.progress.get_mut(&to)?.flow {
            Flow::Snapshot(install) => Some(install),
            Flow::Probe { .. } | Flow::Replicate { .. } => None,
        }
    }
}

/// The follower's half.
impl Raft {
    /// Whether this node, when it hears this, makes a part of a snapshot durable and hands it to its application. The
    /// application may look at the part before, and keep from this node what it can make nothing of.
    pub fn would_take_part(&self, from: NodeId, message: &Message) -> bool {
        let Message { term, body: Body::InstallSnapshot(InstallSnapshot { last, number, .. }) } = message else {
            return false;
        };
        let is_leader = *term > self.term() || self.leader().is_none_or(|leader| leader == from);
        let is_heard = self.is_plausible(from, *term) && *term >= self.term() && is_leader;
        let is_new = is_possible(*last, *term) && last.index > self.commit_index;
        let next = self.next_part(*last);
        is_heard && is_new && (*number == next || *number == 0 && next != 1)
    }

    pub(super) fn on_install_snapshot(
        &mut self,
        now: Time,
        from: NodeId,
        part: InstallSnapshot,
        out: &mut Effects<Self>,
    ) {
        if !is_possible(part.last, self.term()) || !self.follow(now, from, out) {
            return self.bad_message();
        }
        let InstallSnapshot { last, configuration, number, data, done } = part;
        if last.index <= self.commit_index {
            self.give_up_incoming();
            return self.send_matched(from, last.index, out); // all of it is here already
        }
        // The first part begins anew, but for the repetition of one just taken.
        let mut next = self.next_part(last);
        if number == 0 && next != 1 {
            self.begin_record(last, configuration.clone(), Source::Leader { next: 0 }, out);
            next = 0;
        }
        if (number == next || cfg!(mutant = "install_takes_any_part"))
            && matches!(self.incoming, Some(Incoming { source: Source::Leader { .. }, .. }))
        {
            out.persist(Record::SnapshotChunk(data.clone()));
            out.emit(Event::Chunk { number, data });
            next += 1;
            self.incoming = Some(Incoming { last, source: Source::Leader { next } });
            if done {
                self.incoming = None;
                out.persist(Record::SnapshotEnd);
                return self.restore(from, last, configuration, out);
            }
        }
        self.send(from, Body::Installing { last, next }, out);
    }

    /// The part that is wanted next of the leader's snapshot up to `last`.
    fn next_part(&self, last: Position) -> u64 {
        match self.incoming {
            Some(Incoming { last: known, source: Source::Leader { next } }) if known == last => next,
            Some(_) | None => 0,
        }
    }

    /// The leader sends entries after all, or this node leads, or its application makes nothing of what came: that is not
    /// needed. This node's own one goes on.
    pub(super) fn give_up_incoming(&mut self) {
        self.incoming.take_if(|incoming| matches!(incoming.source, Source::Leader { .. }));
    }

    /// The snapshot is whole: it replaces the log up to its last entry, or all of it, if that is another log (Figure
    /// 13, InstallSnapshot RPC 6 to 8).
    fn restore(&mut self, from: NodeId, last: Position, configuration: Configuration, out: &mut Effects<Self>) {
        if self.log.contains(last) {
            self.log.compact(last.index);
        } else {
            self.log = Log::new(last, configuration);
        }
        self.snapshot = last;
        self.commit_index = last.index;
        self.last_applied = last.index;
        out.emit(Event::Restored { last });
        self.send_matched(from, last.index, out);
        self.serve_reads(out);
    }

    fn send_matched(&self, to: NodeId, index: Index, out: &mut Effects<Self>) {
        self.send(to, Body::Appended { round: Round(0), outcome: AppendOutcome::Matched(index) }, out);
    }
}

/// Whether there can be a snapshot up to `last` in that term.
fn is_possible(last: Position, term: Term) -> bool {
    last.term <= term && last.index.0 < MOST_ENTRIES
}
