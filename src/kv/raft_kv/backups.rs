//! Views of the state, which backups read.

use super::message::{Answer, Event, OpenedView, RequestError, RequestId};
use super::node::RaftKv;
use crate::defaults::{BACKUP_PATIENCE, MAX_BACKUPS};
use crate::kv::view::ViewId;
use crate::protocol::{Effects, Time};

impl RaftKv {
    pub(super) fn open_backup(&mut self, now: Time, out: &mut Effects<Self>) -> Result<Answer, RequestError> {
        if self.snapshots.backups.len() >= MAX_BACKUPS {
            return Err(RequestError::Overloaded);
        }
        let id = self.state.open_view();
        let deadline = now + BACKUP_PATIENCE;
        self.snapshots.backups.insert(id, deadline);
        self.deadlines.set(now, deadline, out);
        let (through, last) = (self.raft.last_applied(), self.raft.log().last().index);
        let (version, cluster) = (self.store().version(), self.state.cluster());
        Ok(Answer::View(OpenedView { id, version, cluster, through, last }))
    }

    pub(super) fn next_chunk(&mut self, now: Time, id: RequestId, view: ViewId, out: &mut Effects<Self>) {
        let answer = if let Some(deadline) = self.snapshots.backups.get_mut(&view) {
            *deadline = now + BACKUP_PATIENCE; // the timer rings before, and is set for it then
            let chunk = self.state.next_chunk(view);
            if chunk.is_none() {
                self.forget_backup(view);
            }
            Ok(Answer::Chunk(chunk))
        } else {
            Err(RequestError::ViewClosed)
        };
        out.emit(Event::Answered { id, answer });
    }

    pub(super) fn close_backup(&mut self, id: RequestId, view: ViewId, out: &mut Effects<Self>) {
        self.forget_backup(view);
        out.emit(Event::Answered { id, answer: Ok(Answer::Done) });
    }

    pub(super) fn forget_backup(&mut self, view: ViewId) {
        if self.snapshots.backups.remove(&view).is_some() {
            self.state.close_view(view);
        }
    }
}
