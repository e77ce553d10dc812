//! What Raft does and tells, carried over: the state is changed by what is committed, and requests are answered.

use super::message::{Answer, Event, Forwarding, Message, RequestError, Timer};
use super::node::{Origin, RaftKv, Request, Stage, Work};
use crate::kv::command::SessionRequest;
use crate::node_id::NodeId;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};
use crate::raft::{self, Entry, Payload, Position, Raft, Refusal, RoleName, Ticket};

/// What is to be done once all effects of a step of Raft have been carried over.
#[derive(Default)]
struct Next {
    init_cluster: bool,
    submit: bool,
    /// Parts of snapshots that are wanted, and by whom.
    chunks: Vec<(NodeId, u64)>,
}

impl RaftKv {
    /// Steps Raft, and carries its effects over in their order.
    pub(super) fn step_raft(&mut self, now: Time, input: Input<Raft>, out: &mut Effects<Self>) {
        let mut effects = std::mem::take(&mut self.raft_effects);
        self.raft.step(now, input, &mut effects);
        let mut next = Next::default();
        for effect in effects.drain() {
            match effect {
                Effect::Persist(record) => out.persist(record),
                Effect::Send { to, message } => out.send(to, Message::Raft(message)),
                Effect::SetTimer(timer, length) => out.set_timer(Timer::Raft(timer), length),
                Effect::CancelTimer(timer) => out.cancel_timer(Timer::Raft(timer)),
                Effect::Meanwhile { to, message } => out.meanwhile(to, Message::Raft(message)),
                Effect::Emit(event) | Effect::EmitAtOnce(event) => self.on_raft_event(now, event, &mut next, out),
            }
        }
        self.raft_effects = effects;
        for (to, number) in next.chunks {
            self.offer_chunk(now, to, number, out);
        }
        if next.init_cluster {
            self.init_cluster(now, out);
        }
        if next.submit {
            self.submit_waiting(now, out);
        }
    }

    fn on_raft_event(&mut self, now: Time, event: raft::Event, next: &mut Next, out: &mut Effects<Self>) {
        match event {
            raft::Event::Committed(entries) => next.init_cluster |= self.apply(entries, out),
            raft::Event::Proposed { ticket, position } => self.on_proposed(ticket, position, out),
            raft::Event::ReadReady { tickets } => self.serve_reads(now, &tickets, out),
            raft::Event::Dropped { tickets } => self.on_dropped(&tickets, out),
            raft::Event::Refused { ticket, why } => self.on_refused(ticket, why, out),
            raft::Event::SteppedDown { ticket } => drop(self.tickets.remove(&ticket)),
            raft::Event::ConfigurationChanged(members) => out.emit(Event::MembersChanged(members)),
            raft::Event::ChunkWanted { to, number } => next.chunks.push((to, number)),
            raft::Event::ChunksUnwanted { to } => self.close_install(to),
            raft::Event::Chunk { number, data: _ } => self.on_chunk(number, out),
            raft::Event::Restored { last } => self.restore(last, out),
            raft::Event::RoleChanged { role, term, leader } => {
                out.emit(Event::RoleChanged { role, term, leader });
                self.give_up_forwarded(term, leader, out);
                next.submit |= leader.is_some();
            }
        }
    }

    pub(super) fn on_proposed(&mut self, ticket: Ticket, position: Position, out: &mut Effects<Self>) {
        let origin = self.tickets.remove(&ticket).expect("Raft answers each ticket once");
        if let Origin::Local(id) = origin
            && let Some(request) = self.requests.get_mut(&id)
        {
            request.stage = Stage::Proposed;
        }
        // A proposal of an earlier leadership that had this index was cut from this log. It may live on in
        // another one and be committed yet: its origin is left without an answer.
        if let Some((_, Origin::Local(id))) = self.proposed.insert(position.index, (position, origin)) {
            self.outcome_unknown(id, out);
        }
    }

    pub(super) fn on_refused(&mut self, ticket: Ticket, why: Refusal, out: &mut Effects<Self>) {
        match self.tickets.remove(&ticket) {
            Some(Origin::Local(id)) => self.answer(id, Err(RequestError::Refused(why)), out),
            Some(Origin::Peer { node, id, term }) => {
                out.send(node, Message::Forwarded { id, term, result: Forwarding::Refused(why) });
            }
            Some(Origin::Own) | None => {}
        }
    }

    /// Carries out what is committed. True when this node, as the leader, is to [initialise](Self::init_cluster) the cluster.
    pub(super) fn apply(&mut self, entries: Vec<Entry>, out: &mut Effects<Self>) -> bool {
        let (before, mut init, mut tell) = (self.store().version(), false, false);
        for entry in entries {
            tell |= Self::is_time_to_tell(entry.position.index.0, matches!(entry.payload, Payload::Noop));
            let outcome = match entry.payload {
                Payload::Noop => {
                    // A leader's first entry: all earlier ones have been applied, and none of them gave the cluster its id.
                    let is_ours = entry.position.term == self.raft.hard_state().current_term;
                    init |= is_ours && self.raft.role() == RoleName::Leader && self.is_to_init_cluster();
                    None
                }
                Payload::Configuration(_) => None,
                Payload::Command(bytes) => {
                    let size = bytes.len();
                    // Leaders decode before they propose: what cannot be decoded here was written by a newer
                    // netbelt, and skipping it would make this state differ from the others.
                    let request = SessionRequest::decode(bytes);
                    let request = request.unwrap_or_else(|e| panic!("cannot apply {:?}: {e}", entry.position));
                    let (outcome, change) = self.state.apply(request);
                    self.snapshots.applied(size);
                    change.into_iter().for_each(|change| self.changes.push(change));
                    Some(outcome)
                }
            };
            let Some((position, origin)) = self.proposed.remove(&entry.position.index) else { continue };
            match (position == entry.position, outcome, origin) {
                (true, _, Origin::Own) => {}
                (true, Some(outcome), Origin::Local(id)) => self.answer(id, Ok(Answer::Written(outcome)), out),
                (true, Some(outcome), Origin::Peer { node, id, term }) => {
                    out.send(node, Message::Forwarded { id, term, result: Forwarding::Applied(outcome) });
                }
                (true, None, Origin::Local(id)) => self.answer(id, Ok(Answer::Done), out),
                (true, None, Origin::Peer { node, id, term }) => {
                    out.send(node, Message::Forwarded { id, term, result: Forwarding::Done });
                }
                // Another leader's entry has the place: ours is lost, for certain.
                (_, _, origin) => self.on_lost(origin, out),
            }
        }
        let through = self.store().version();
        if through > before {
            out.emit(Event::Changed { through });
        }
        if tell {
            self.tell_ready(out);
        }
        init
    }

    pub(super) fn serve_reads(&mut self, now: Time, tickets: &[Ticket], out: &mut Effects<Self>) {
        for ticket in tickets {
            let Some(Origin::Local(id)) = self.tickets.remove(ticket) else { continue };
            let answer = match self.requests.get(&id) {
                Some(Request { work: Work::Read(query), .. }) => Ok(self.query(query)),
                Some(Request { work: Work::OpenView, .. }) => self.open_backup(now, out),
                Some(_) | None => continue,
            };
            self.answer(id, answer, out);
        }
    }

    pub(super) fn on_dropped(&mut self, tickets: &[Ticket], out: &mut Effects<Self>) {
        for ticket in tickets {
            if let Some(origin) = self.tickets.remove(ticket) {
                self.on_lost(origin, out);
            }
        }
    }

    /// Not done, and never will be: may be tried anew when the role next changes.
    pub(super) fn on_lost(&mut self, origin: Origin, out: &mut Effects<Self>) {
        match origin {
            Origin::Own => {} // the next leader initialises the cluster
            Origin::Local(id) => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.stage = Stage::Waiting { after: None };
                    self.look_again_soon(out);
                }
            }
            Origin::Peer { node, id, term } => {
                out.send(node, Message::Forwarded { id, term, result: Forwarding::NotLeader });
            }
        }
    }
}
