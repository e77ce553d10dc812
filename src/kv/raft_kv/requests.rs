//! The requests of this node's application: taken, handed to Raft or to the leader, answered in time.

use super::message::{Administration, Answer, Ask, Command, Event, Message, RequestError, RequestId};
use super::node::{Origin, RaftKv, Request, Stage, Work};
use crate::defaults::{MAX_REQUESTS, MAX_UNCOMMITTED_BYTES};
use crate::kv::command::{EncodedRequest, Outcome};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Input, Time};
use crate::raft::{self, Refusal, Term};

/// A request on its way in.
impl RaftKv {
    pub(super) fn on_request(&mut self, now: Time, command: Command, out: &mut Effects<Self>) {
        let Command { id, ask, timeout } = command;
        let is_write = matches!(ask, Ask::Write(_) | Ask::Administer(_));
        let has_no_room = if is_write { !self.takes_writes(now) } else { self.is_overloaded() };
        if has_no_room && !matches!(ask, Ask::CloseView(_)) {
            return out.emit_at_once(Event::Answered { id, answer: Err(RequestError::Overloaded) });
        }
        let work = match ask {
            Ask::Write(request) => Work::Write(request),
            Ask::Administer(what) => Work::Administer(what),
            Ask::Read(query) => {
                self.counters.reads += 1;
                Work::Read(query)
            }
            Ask::OpenView => {
                self.counters.reads += 1;
                Work::OpenView
            }
            Ask::ReadStale(query) => {
                self.counters.reads += 1;
                return out.emit(Event::Answered { id, answer: Ok(self.query(&query)) });
            }
            Ask::OpenStaleView => {
                self.counters.reads += 1;
                let answer = self.open_backup(now, out);
                return out.emit(Event::Answered { id, answer });
            }
            Ask::Snapshot => return self.ask_snapshot(now, id, out),
            Ask::NextChunk(view) => return self.next_chunk(now, id, view, out),
            Ask::CloseView(view) => return self.close_backup(id, view, out),
        };
        let (deadline, stage) = (now + timeout, Stage::Waiting { after: None });
        self.requests.insert(id, Request { work, deadline, stage, may_be_done: false });
        self.deadlines.set(now, deadline, out);
        self.submit(now, id, out);
    }

    /// What Raft still has in hand counts, too, although whoever asked for it may have gone.
    pub(super) fn is_overloaded(&self) -> bool {
        self.requests.len().max(self.tickets.len() + self.proposed.len()) >= MAX_REQUESTS
    }

    /// Behind a disk that stands still, or a majority whose disks do, writes would pile up without end: whoever asks is answered when
    /// his time is up, and asks for the next one.
    pub(super) fn takes_writes(&self, now: Time) -> bool {
        !self.is_overloaded()
            && !self.raft.disk_stands_still(now)
            && self.raft.uncommitted_bytes() <= MAX_UNCOMMITTED_BYTES
    }

    pub(super) fn submit_waiting(&mut self, now: Time, out: &mut Effects<Self>) {
        let waiting = self.requests.iter().filter(|(_, request)| matches!(request.stage, Stage::Waiting { .. }));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.submit(now, id, out);
        }
    }

    /// Takes a waiting request one step further, if the leader it waits for is known.
    pub(super) fn submit(&mut self, now: Time, id: RequestId, out: &mut Effects<Self>) {
        let term = self.raft.hard_state().current_term;
        let Some(leader) = self.raft.leader() else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !matches!(request.stage, Stage::Waiting { after } if after.is_none_or(|after| term > after)) {
            return;
        }
        match &request.work {
            Work::Write(write) if leader != self.raft.config().id => {
                request.stage = Stage::Forwarded(term);
                self.counters.forwarded += 1;
                out.send(leader, Message::Forward { id, term, request: write.clone().into_bytes() });
            }
            Work::Write(write) => {
                request.stage = Stage::InRaft;
                let write = write.clone();
                self.propose(now, Origin::Local(id), write, out);
            }
            Work::Administer(Administration::Transfer(Some(to))) if *to == leader => {
                self.answer(id, Ok(Answer::Done), out);
            }
            Work::Administer(what) => {
                request.stage = Stage::Forwarded(term);
                let what = what.clone();
                if leader == self.raft.config().id {
                    self.administer(now, Origin::Local(id), what, out);
                } else {
                    out.send(leader, Message::Administer { id, term, what });
                }
            }
            Work::Read(_) | Work::OpenView => {
                request.stage = Stage::InRaft;
                let ticket = self.take_ticket(Origin::Local(id));
                self.step_raft(now, Input::Requested(raft::Command::Read { ticket }), out);
            }
        }
    }

    pub(super) fn administer(&mut self, now: Time, origin: Origin, what: Administration, out: &mut Effects<Self>) {
        let ticket = self.take_ticket(origin);
        let command = match what {
            Administration::Change(change) => raft::Command::Change { ticket, change },
            Administration::Transfer(to) => raft::Command::Transfer { ticket, to },
        };
        self.step_raft(now, Input::Requested(command), out);
    }

    pub(super) fn propose(&mut self, now: Time, origin: Origin, request: EncodedRequest, out: &mut Effects<Self>) {
        self.counters.proposals += u64::from(!matches!(origin, Origin::Own));
        let ticket = self.take_ticket(origin);
        let command = request.into_bytes();
        self.step_raft(now, Input::Requested(raft::Command::Propose { ticket, command }), out);
    }
}

/// A request on its way out.
impl RaftKv {
    /// Answers the requests whose time is up, tries those that wait, and closes the views that nobody reads any more.
    pub(super) fn on_deadline(&mut self, now: Time, out: &mut Effects<Self>) {
        let requests = self.requests.iter().map(|(id, request)| (*id, request.deadline));
        for id in self.deadlines.take_due(now, requests, out) {
            self.give_up(id, out);
        }
        self.submit_waiting(now, out);
        for (view, _) in self.snapshots.backups.extract_if(.., |_, deadline| *deadline <= now) {
            self.state.close_view(view);
        }
        let requests = self.requests.values().map(|request| request.deadline);
        self.deadlines.rearm(now, requests.chain(self.snapshots.backups.values().copied()), out);
    }

    /// Its time is up.
    pub(super) fn give_up(&mut self, id: RequestId, out: &mut Effects<Self>) {
        let Some(request) = self.requests.get(&id) else { return };
        let error = match request.stage {
            Stage::Waiting { .. } => RequestError::NoLeader,
            // A proposal that is still in Raft's hands may get its place in the log any moment.
            Stage::InRaft if !request.is_write() => RequestError::TooLate,
            Stage::InRaft | Stage::Proposed | Stage::Forwarded(_) => RequestError::OutcomeUnknown,
        };
        self.refuse(id, error, out);
    }

    /// The leader that was given a write is gone. Whether it has replicated the write, nobody here can tell.
    /// What was proposed here while this node led will tell by itself, but only once the new leader commits.
    pub(super) fn give_up_forwarded(&mut self, term: Term, leader: Option<NodeId>, out: &mut Effects<Self>) {
        if leader.is_none() {
            return; // it may come back, and answer
        }
        let is_other = leader != Some(self.raft.config().id);
        let lost = |request: &Request| match request.stage {
            Stage::Forwarded(then) => then < term,
            Stage::Proposed => is_other && request.has_session(),
            Stage::Waiting { .. } | Stage::InRaft => false,
        };
        let ids: Vec<_> = self.requests.iter().filter(|(_, request)| lost(request)).map(|(id, _)| *id).collect();
        for id in ids {
            match (&self.requests[&id].work, leader) {
                // A leader that was asked to go has gone. Whoever leads now was wanted, or nobody in particular was.
                (Work::Administer(Administration::Transfer(to)), Some(leader)) => {
                    let taken_over = to.is_none_or(|to| to == leader);
                    let refused = RequestError::Refused(Refusal::NotTakenOver);
                    self.answer(id, if taken_over { Ok(Answer::Done) } else { Err(refused) }, out);
                }
                _ => self.outcome_unknown(id, out),
            }
        }
    }

    /// Nobody can tell whether a write was done, or will be. With a session, it may be tried again.
    pub(super) fn outcome_unknown(&mut self, id: RequestId, out: &mut Effects<Self>) {
        match self.requests.get_mut(&id) {
            Some(request) if request.has_session() => {
                request.may_be_done = true;
                request.stage = Stage::Waiting { after: None };
                self.look_again_soon(out);
            }
            Some(_) | None => self.answer(id, Err(RequestError::OutcomeUnknown), out),
        }
    }

    /// Raft tells of losses in the middle of its effects, when a leader may already be known.
    pub(super) fn look_again_soon(&mut self, out: &mut Effects<Self>) {
        self.deadlines.ring_soon(out);
    }

    /// Answers that nothing was done, unless an earlier try may have succeeded.
    pub(super) fn refuse(&mut self, id: RequestId, error: RequestError, out: &mut Effects<Self>) {
        let may_be_done = self.requests.get(&id).is_some_and(|request| request.may_be_done);
        self.answer(id, Err(if may_be_done { RequestError::OutcomeUnknown } else { error }), out);
    }

    pub(super) fn answer(&mut self, id: RequestId, answer: Result<Answer, RequestError>, out: &mut Effects<Self>) {
        let Some(request) = self.requests.remove(&id) else { return };
        let is_forgotten = matches!(&answer, Ok(Answer::Written(Outcome::Forgotten | Outcome::NameForgotten)));
        // It did not come in time to be remembered, and an earlier try may have.
        let answer = if is_forgotten && request.may_be_done { Err(RequestError::OutcomeUnknown) } else { answer };
        if answer.as_ref().is_err_and(|error| error.rests_on_nothing()) {
            out.emit_at_once(Event::Answered { id, answer });
        } else {
            out.emit(Event::Answered { id, answer });
        }
    }
}
