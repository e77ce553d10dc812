//! What is committed: told to the application, and noted among the records (Raft, Figure 2, all servers).

use super::message::{Event, Timer};
use super::record::Record;
use super::state::Raft;
use super::types::{Entry, Index};
use crate::defaults::APPLY_PAUSE;
use crate::protocol::Effects;

impl Raft {
    /// Moves the commit index and tells what is committed now.
    pub(super) fn commit_through(&mut self, index: Index, out: &mut Effects<Self>) {
        if index > self.commit_index {
            self.commit_index = index;
            self.note_soon(out);
            self.apply(out);
        }
    }

    pub(super) fn note_soon(&mut self, out: &mut Effects<Self>) {
        if !self.config.note_commit.is_zero() && !self.noted.due && self.noted.through < self.commit_index {
            self.noted.due = true;
            out.set_timer(Timer::Note, self.config.note_commit..=self.config.note_commit);
        }
    }

    /// The next append takes along what is committed by now: that costs no write of its own.
    pub(super) fn persist_append(&mut self, entries: Vec<Entry>, out: &mut Effects<Self>) {
        if !self.config.note_commit.is_zero() {
            self.note_commit(out);
        }
        out.persist(Record::Append(entries));
    }

    fn note_commit(&mut self, out: &mut Effects<Self>) {
        if self.commit_index > self.noted.through {
            self.noted.through = self.commit_index;
            out.persist(Record::Committed(self.commit_index));
        }
    }

    pub(super) fn on_note(&mut self, out: &mut Effects<Self>) {
        self.noted.due = false;
        self.note_commit(out);
    }

    /// Tells what is committed (Raft, Figure 2, all servers), a part at a time: after a restart the whole log is
    /// committed at once, and a node that spoke to nobody while it applies it would be taken for dead.
    pub(super) fn apply(&mut self, out: &mut Effects<Self>) {
        let through = self.commit_index.min(Index(self.last_applied.0 + self.config.apply_batch));
        if through > self.last_applied {
            out.emit(Event::Committed(self.log.between(self.last_applied, through)));
            self.last_applied = through;
        }
        self.trim();
        if self.last_applied < self.commit_index {
            out.set_timer(Timer::Apply, APPLY_PAUSE..=APPLY_PAUSE);
        }
        self.serve_reads(out);
    }
}
