//! Snapshots on their way to followers, and from the leader.

use super::message::Event;
use super::node::{Origin, RaftKv};
use super::snapshots::{Incoming, Install};
use crate::kv::changes::Changes;
use crate::node_id::NodeId;
use crate::protocol::{Effects, Input, Time};
use crate::raft::{self, Body, Position};

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
    pub(super) fn read_part(
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
