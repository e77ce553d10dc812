//! Replication: one log, everywhere (Raft §5.3, §5.4.2).

use std::collections::BTreeSet;

use super::message::{Append, AppendOutcome, Body, Event, Message, Round, Ticket, Timer};
use super::progress::{Flow, Progress};
use super::reads::LeaderReads;
use super::role::{Leader, Role};
use super::state::Raft;
use super::types::{Entry, Index, Payload, Position};
use crate::node_id::NodeId;
use crate::protocol::{Effects, Time};

/// The leader's half.
impl Raft {
    /// Won the election: tell everybody at once, with an entry of the new term (Raft §5.2, §8).
    pub(super) fn become_leader(&mut self, now: Time, out: &mut Effects<Self>) {
        self.give_up_incoming();
        let last = self.log.last();
        let noop = Entry { position: Position { term: self.term(), index: last.index.next() }, payload: Payload::Noop };
        self.role = Role::Leader(Leader {
            progress: self.peers().into_iter().map(|peer| (peer, Progress::new(last, now))).collect(),
            first_of_term: noop.position.index,
            proposals: Vec::new(),
            batch_since: None,
            reads: LeaderReads::default(),
            transfer: None,
        });
        self.patience.leader_found();
        out.cancel_timer(Timer::Election);
        out.set_timer(Timer::Heartbeat, self.config.heartbeat..=self.config.heartbeat);
        self.append_and_send(vec![noop], out);
        self.advance_commit(out);
    }

    /// Gathers a proposal for the next batch.
    pub(super) fn propose(&mut self, ticket: Ticket, command: bytes::Bytes, out: &mut Effects<Self>) {
        match &mut self.role {
            Role::Leader(leader) => {
                leader.proposals.push((ticket, command));
                Self::flush_soon(out);
            }
            Role::Follower(_) | Role::PreCandidate { .. } | Role::Candidate { .. } => {
                out.emit(Event::Dropped { tickets: vec![ticket] });
            }
        }
    }

    /// All pending proposals and reads share one append to each follower. While another node is about to
    /// take over, proposals wait.
    pub(super) fn replicate_batch(&mut self, now: Time, out: &mut Effects<Self>) {
        let new_round = self.open_read_round();
        let held_back = self.holds_batch_back(now, out);
        let Role::Leader(leader) = &mut self.role else { return };
        let waits = held_back || leader.transfer.is_some();
        let proposals = if waits { Vec::new() } else { std::mem::take(&mut leader.proposals) };

        let term = self.hard_state.current_term;
        let mut index = self.log.last().index;
        let mut tickets = Vec::with_capacity(proposals.len());
        let mut entries = Vec::with_capacity(proposals.len());
        for (ticket, command) in proposals {
            index = index.next();
            let position = Position { term, index };
            tickets.push((ticket, position));
            entries.push(Entry { position, payload: Payload::Command(command) });
        }
        if new_round {
            for peer in self.peers() {
                if entries.is_empty() || !self.may_send(peer) {
                    self.send_empty_append(peer, out);
                }
            }
        }
        if !entries.is_empty() {
            self.append_and_send(entries, out);
        }
        for (ticket, position) in tickets {
            out.emit(Event::Proposed { ticket, position });
        }
        self.advance_commit(out); // alone in the cluster, at once; a proposal has been told its place by then
        self.confirm_reads(out); // alone in the cluster, nobody else will
    }

    /// Whether proposals wait for those before them to be committed, so that those which come meanwhile share an append, a
    /// write and an answer of each follower (as Nagle's algorithm does with segments, RFC 896). A long way to the
    /// followers holds them up for no more than [`Config::batch_delay`](super::Config::batch_delay).
    fn holds_batch_back(&mut self, now: Time, out: &mut Effects<Self>) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        if leader.proposals.is_empty() || self.commit_index == self.log.last().index {
            leader.batch_since = None;
            return false;
        }
        let until = *leader.batch_since.get_or_insert(now) + self.config.batch_delay;
        if now >= until {
            leader.batch_since = None;
            return false;
        }
        let left = until.since(now);
        out.set_timer(Timer::Flush, left..=left);
        true
    }

    /// Appends to the leader's log. The followers get the entries before its own disk does: whatever it says
    /// later waits for both (thesis §10.2.1; see the order of effects in [`crate::protocol`]).
    pub(super) fn append_and_send(&mut self, entries: Vec<Entry>, out: &mut Effects<Self>) {
        for entry in &entries {
            self.log.push(entry.clone());
        }
        for peer in self.peers() {
            self.send_entries(peer, out);
        }
        for part in in_parts(entries, self.config.max_append_bytes) {
            self.persist_append(part, out);
        }
    }

    fn may_send(&mut self, peer: NodeId) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        leader.progress.get_mut(&peer).is_some_and(|progress| progress.room(self.config.window).is_some())
    }

    /// Sends what the follower lacks, as far as its window allows.
    fn send_entries(&mut self, peer: NodeId, out: &mut Effects<Self>) {
        let term = self.term();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        while progress.next_index <= self.log.last().index && !matches!(progress.flow, Flow::Snapshot(_)) {
            // Even with a full window: what was lost of it cannot be asked for any more, so it would stay full.
            if cfg!(mutant = "full_window_stays_full") && progress.room(self.config.window).is_none() {
                return;
            }
            let Some(prev) = self.log.position(progress.next_index.prev()) else {
                return self.begin_install(peer, out);
            };
            let next = progress.next_index;
            let Some(room) = progress.room(self.config.window) else { return };
            let entries = self.log.from(next, self.config.max_append_bytes);
            let last = entries.last().expect("there is an entry at next_index").position.index;
            room.take(last, entries.iter().map(Entry::size).sum());
            let append = Append { prev, entries, commit: self.commit_index, round: leader.reads.round };
            out.send(peer, Message { term, body: Body::Append(append) });
        }
    }

    /// A heartbeat; also a probe for the place where the logs agree, and news of the commit index.
    pub(super) fn send_empty_append(&self, peer: NodeId, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(progress) = leader.progress.get(&peer) else { return };
        // Where the entry before is gone, the beginning of all logs will do: it asks for nothing but an answer.
        let prev = self.log.position(progress.next_index.prev()).unwrap_or(Position::ORIGIN);
        let round = leader.reads.round;
        // Its commit index may rest on entries that its own disk has yet to get; that it leads does not.
        // A sole voter has elected itself in the same moment: its term may not be durable anywhere.
        if self.configuration().voters().nth(1).is_some() {
            out.meanwhile(peer, Message { term: self.term(), body: Body::Heartbeat { round } });
        }
        let append = Append { prev, entries: Vec::new(), commit: self.commit_index, round };
        self.send(peer, Body::Append(append), out);
    }

    /// Speaks to everybody, unless a majority has been silent for the shortest election timeout: then another
    /// leader may exist, and this one steps down (thesis §6.2).
    pub(super) fn on_heartbeat(&mut self, now: Time, out: &mut Effects<Self>) {
        let patience = *self.config.election_timeout.start();
        let Role::Leader(leader) = &mut self.role else { return };
        let mut heard = BTreeSet::from([self.config.id]);
        for (peer, progress) in &mut leader.progress {
            let is_heard = now.since(progress.heard) < patience;
            progress.reachable &= is_heard && now.since(progress.answered) < self.config.disk_patience;
            heard.extend(is_heard.then_some(*peer));
        }
        // Whether the others' disks do better is not known: they are sent nothing that they could answer for.
        let others: BTreeSet<_> = heard.iter().copied().filter(|id| *id != self.config.id).collect();
        if self.configuration().is_majority(&others)
            && self.disk_stands_still(now)
            && !cfg!(mutant = "leads_with_a_disk_that_stands_still")
        {
            return self.become_follower(self.term(), None, out);
        }
        if self.config.check_quorum && !cfg!(mutant = "no_check_quorum") && !self.configuration().is_majority(&heard) {
            return self.become_follower(self.term(), None, out);
        }
        out.set_timer(Timer::Heartbeat, self.config.heartbeat..=self.config.heartbeat);
        self.end_late_transfer(now, out);
        for peer in self.peers() {
            self.send_empty_append(peer, out);
            if heard.contains(&peer) {
                self.repeat_lost_chunk(now, peer, out);
            } else {
                self.give_up_install(peer, out);
            }
        }
    }

    /// The follower is there.
    pub(super) fn hear_from(&mut self, now: Time, follower: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.progress.get_mut(&follower) {
            progress.note_answer(now);
        }
    }

    /// The follower is there, and may be busy with its disk.
    pub(super) fn on_heartbeat_reply(&mut self, now: Time, from: NodeId, round: Round, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if round > leader.reads.round {
            return self.bad_message();
        }
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.heard = now;
        progress.round = progress.round.max(round);
        self.confirm_reads(out);
    }

    pub(super) fn on_appended(
        &mut self,
        now: Time,
        from: NodeId,
        round: Round,
        outcome: AppendOutcome,
        out: &mut Effects<Self>,
    ) {
        let last_index = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let possible = match outcome {
            AppendOutcome::Matched(index) => index <= last_index,
            AppendOutcome::Conflict { prev, first, .. } => prev.index <= last_index && first <= last_index.next(),
        };
        if round > leader.reads.round || !possible {
            return self.bad_message();
        }
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.note_answer(now);
        progress.round = progress.round.max(round);
        match outcome {
            AppendOutcome::Matched(index) => {
                let installed = matches!(progress.flow, Flow::Snapshot(_));
                let news = progress.matched(index);
                if installed && !matches!(progress.flow, Flow::Snapshot(_)) {
                    out.emit(Event::ChunksUnwanted { to: from });
                }
                if news {
                    self.advance_commit(out);
                }
            }
            AppendOutcome::Conflict { prev, first, term } => {
                // A whole term is passed over at a time: to the end of our entries of the follower's term when
                // we have some, to its beginning otherwise (Raft §5.3).
                let ours = term.and_then(|term| self.log.last_index_of(term));
                progress.refused(prev.index, ours.map_or(first, Index::next));
            }
        }
        self.confirm_reads(out);
        self.send_entries(from, out);
        self.promote(now, from, out);
        self.go_on_with_transfer(from, out);
    }

    /// Commits what a majority has, if it is of the current term: an older entry is never committed by counting,
    /// only by one of the current term after it (Raft §5.4.2, Figure 8). The leader counts itself at once:
    /// what follows from that leaves this node only after its own [`Record::Append`](super::Record::Append) is durable.
    pub(super) fn advance_commit(&mut self, out: &mut Effects<Self>) {
        let Role::Leader(leader) = &self.role else { return };
        let own = self.log.last().index;
        let match_index = |id| {
            if id == self.config.id { own } else { leader.progress.get(&id).map_or(Index(0), |p| p.match_index) }
        };
        let reached = self.configuration().reached_by_majority(match_index);
        let index = reached.expect("a leader's cluster has voters");
        if (index < leader.first_of_term && !cfg!(mutant = "commit_old_term")) || index <= self.commit_index {
            return;
        }
        let first_of_term_committed = self.commit_index < leader.first_of_term;
        self.commit_through(index, out);
        let batch_waits = matches!(&self.role, Role::Leader(leader) if leader.batch_since.is_some());
        if first_of_term_committed || batch_waits {
            Self::flush_soon(out); // reads, or proposals, may have waited for this
        }
        self.leave_if_removed(out);
    }
}

/// The follower's half.
impl Raft {
    pub(super) fn on_append(&mut self, now: Time, from: NodeId, append: Append, out: &mut Effects<Self>) {
        if !self.is_well_formed(&append) || !self.follow(now, from, out) {
            return self.bad_message();
        }
        let Append { mut prev, mut entries, commit, round } = append;
        let matched = Index(prev.index.0.saturating_add(entries.len() as u64));
        let is_heartbeat = entries.is_empty();
        let base = self.log.base();
        if prev.index < base.index {
            // What is gone was applied, hence committed, so it is the leader's, too.
            entries.drain(..entries.len().min((base.index.0 - prev.index.0) as usize));
            prev = base;
        }
        let outcome = if self.log.contains(prev) {
            // Only a real conflict removes anything: an append that was overtaken by a longer one must not
            // shorten the log (Raft, Figure 2, AppendEntries RPC 3 and 4).
            if let Some(new) = entries
                .iter()
                .position(|entry| cfg!(mutant = "overtaken_append_truncates") || !self.log.contains(entry.position))
            {
                let new = entries.split_off(new);
                let first = new[0].position.index;
                if first <= self.commit_index {
                    return self.bad_message(); // nobody may take back what is committed
                }
                self.give_up_incoming();
                self.log.truncate_from(first);
                for entry in &new {
                    self.log.push(entry.clone());
                }
                if cfg!(mutant = "reply_before_persist") {
                    self.send(from, Body::Appended { round, outcome: AppendOutcome::Matched(matched) }, out);
                }
                self.persist_append(new, out);
            }
            // What lies beyond this append may still differ from the leader's (Figure 2, AppendEntries RPC 5).
            let vouched = if cfg!(mutant = "commit_beyond_append") { self.log.last().index } else { matched };
            self.commit_through(commit.min(vouched), out);
            AppendOutcome::Matched(matched)
        } else {
            self.conflict_at(prev)
        };
        // That the logs match is told when it is durable; that the leader is heard rests on no record, not even on that of
        // its term: whoever elected it has that one on the disk.
        if is_heartbeat {
            out.meanwhile(from, Message { term: self.term(), body: Body::HeartbeatReply { round } });
        }
        // What says nothing new need not pile up behind a disk that stands still.
        if !is_heartbeat || !self.disk_stands_still(now) {
            self.send(from, Body::Appended { round, outcome }, out);
        }
        self.repeat_lost_questions(now, out);
    }

    /// The leader's disk is busy.
    pub(super) fn on_leader_heartbeat(&mut self, now: Time, from: NodeId, round: Round, out: &mut Effects<Self>) {
        if !self.follow(now, from, out) {
            return self.bad_message();
        }
        let reply = Body::HeartbeatReply { round };
        out.meanwhile(from, Message { term: self.term(), body: reply.clone() });
        if !self.disk_stands_still(now) {
            self.send(from, reply, out);
        }
    }

    /// Follows the sender of an append, who leads the current term. False when that cannot be.
    pub(super) fn follow(&mut self, now: Time, from: NodeId, out: &mut Effects<Self>) -> bool {
        match &mut self.role {
            Role::Leader(_) => return false,
            Role::Follower(follower) => match &mut follower.leader {
                Some((leader, _)) if *leader != from => return false,
                Some((_, heard)) => *heard = now,
                None => follower.leader = Some((from, now)),
            },
            Role::PreCandidate { .. } | Role::Candidate { .. } => {
                self.become_follower(self.term(), Some((from, now)), out);
            }
        }
        self.patience.leader_found();
        out.set_timer(Timer::Election, self.election_timeout());
        true
    }

    /// Entries follow each other and `prev`, with terms that never decrease and are not of the future.
    fn is_well_formed(&self, append: &Append) -> bool {
        let mut before = append.prev;
        append.entries.iter().all(|entry| {
            let follows = entry.position.index == before.index.next() && entry.position.term >= before.term;
            before = entry.position;
            follows
        }) && before.term <= self.term()
    }

    /// Tells a leader where to try next (Raft §5.3).
    pub(super) fn conflict_at(&self, prev: Position) -> AppendOutcome {
        match self.log.position(prev.index) {
            Some(ours) => {
                let first = self.log.first_index_not_before(ours.term);
                AppendOutcome::Conflict { prev, first, term: Some(ours.term) }
            }
            None => AppendOutcome::Conflict { prev, first: self.log.last().index.next(), term: None },
        }
    }
}

/// Cuts a batch into parts of about `max_bytes`.
pub(super) fn in_parts(entries: Vec<Entry>, max_bytes: usize) -> Vec<Vec<Entry>> {
    let mut parts = Vec::new();
    let mut part = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    for entry in entries {
        bytes += entry.size();
        part.push(entry);
        if bytes >= max_bytes {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}
