//! This node's own snapshot, from its state into its log.

use super::message::{Answer, Event, RequestError, RequestId, Timer};
use super::node::RaftKv;
use super::snapshots::Own;
use crate::defaults::SNAPSHOT_PAUSE;
use crate::protocol::{Effects, Input, Time};
use crate::raft;

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
    pub(super) fn give_up_own(&mut self, out: &mut Effects<Self>) {
        if let Some(own) = self.snapshots.own.take() {
            self.state.close_view(own.view);
            own.waiting
                .into_iter()
                .for_each(|id| out.emit(Event::Answered { id, answer: Err(RequestError::Overloaded) }));
        }
    }
}
