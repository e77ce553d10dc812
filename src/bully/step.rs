//! One input at a time: which rule it meets.

use super::config::Config;
use super::invariants;
use super::message::{Body, Command, Event, Message, Promise, Timer};
use super::state::{Bully, Role};
use super::types::{Id, Term};
use crate::protocol::{Effects, Input, Protocol, Time};

/// No cluster holds so many elections while one node is away: a term further ahead is a mistake, and believing it would use
/// up the terms there are.
pub(super) const MAX_TERM_JUMP: u64 = 1 << 32;

impl Protocol for Bully {
    type Peer = Id;
    type Message = Message;
    type Command = Command;
    type Timer = Timer;
    type Record = Promise;
    type Event = Event;

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
        match input {
            Input::Started => self.start(now, out),
            Input::Received { from, message } => self.receive(now, from, message, out),
            Input::Elapsed(Timer::Heartbeat) => self.beat(now, out),
            Input::Elapsed(Timer::Silence) => self.on_silence(now, out),
            Input::Requested(Command::Resign) => self.resign(now, out),
            Input::Requested(Command::Ended) => self.on_ended(now, out),
            Input::Synced { .. } => {}
        }
        invariants::check_local(self);
    }
}

impl Bully {
    fn receive(&mut self, now: Time, from: Id, message: Message, out: &mut Effects<Self>) {
        let Message { term, body } = message;
        if !self.may_be_sane(now, from, message) {
            self.counters.bad_messages += 1;
            return;
        }
        self.hear(now, from, out);
        let held = self.term();
        self.seen = self.seen.max(term);
        if term > held {
            self.on_newer_term(now, body, out);
        }
        match body {
            Body::Election => self.on_election(now, from, out),
            Body::Answer => self.on_answer(from, out),
            Body::Willing => self.on_willing(now, from, out),
            Body::Claim { sent } => self.on_claim(now, from, term, sent, out),
            Body::Promise { sent } => self.on_promise(now, from, term, sent, out),
            Body::Coordinator { sent, reason } if self.config.quorum => {
                self.on_coordinator(now, from, term, sent, reason, out);
            }
            Body::Coordinator { reason, .. } => self.on_classic_coordinator(now, from, held, term, reason, out),
            Body::Following { sent } => self.on_following(now, from, term, sent, out),
            Body::Alive => {}
            Body::Released { reason } => self.on_released(now, from, term, reason, out),
        }
    }

    /// Whether a correct peer could have said that. What was said once and comes again is sane: every rule bears that.
    fn may_be_sane(&self, now: Time, from: Id, message: Message) -> bool {
        let Message { term, body } = message;
        let known = self.peers.contains_key(&from) && term.0 <= self.seen.0.saturating_add(MAX_TERM_JUMP);
        let leads_here = matches!(self.role, Role::Leader { .. }) && term == self.term();
        let Config { quorum, .. } = self.config;
        known
            && match body {
                Body::Alive | Body::Election => true,
                Body::Answer => self.is_better(from),
                Body::Willing => quorum || self.is_better(from),
                Body::Claim { .. } => quorum && term > Term(0),
                // Answers to this node's own words, which it cannot have said in the future.
                Body::Promise { sent } | Body::Following { sent } => quorum && term > Term(0) && sent <= now,
                Body::Coordinator { .. } => term > Term(0) && !(quorum && leads_here),
                Body::Released { .. } => term > Term(0),
            }
    }

    /// Says something in the node's term.
    pub(super) fn send(&self, to: Id, body: Body, out: &mut Effects<Self>) {
        out.send(to, Message { term: self.term(), body });
    }

    /// Says it to all peers.
    pub(super) fn tell_all(&self, body: Body, out: &mut Effects<Self>) {
        for peer in self.peers.keys() {
            self.send(*peer, body, out);
        }
    }
}
