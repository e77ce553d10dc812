//! Elections: from silence to a leader (the paper's procedures Recovery, Timeout and Election).

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Body, Event, Promise, Reason, Timer};
use super::state::{Bully, Role};
use super::types::{Id, Term};
use crate::protocol::{Effects, Time};

impl Bully {
    /// Recovery: a node that starts calls an election, but listens first: for one heartbeat, so that it knows the terms of
    /// the others; for a whole silence if it would not take over, or if somebody may rely on what it promised before.
    pub(super) fn start(&mut self, now: Time, out: &mut Effects<Self>) {
        let is_relied_on = self.config.quorum && self.promise.is_some();
        if is_relied_on && !cfg!(mutant = "bully_promises_right_after_a_restart") {
            self.held_until = now + *self.config.silence().start();
        }
        self.peers.values_mut().for_each(|peer| peer.heard = now);
        let listens = if is_relied_on || self.config.sticky {
            self.config.silence()
        } else {
            self.config.heartbeat..=self.config.heartbeat
        };
        self.rests_until = now + *listens.start();
        self.tell_all(Body::Alive, out);
        out.set_timer(Timer::Heartbeat, self.config.heartbeat..=self.config.heartbeat);
        out.set_timer(Timer::Silence, listens);
    }

    /// What was awaited has not come.
    pub(super) fn on_silence(&mut self, now: Time, out: &mut Effects<Self>) {
        match &mut self.role {
            Role::Follower { reason, .. } => {
                let reason = *reason;
                self.stand_soon(now, reason, out);
            }
            Role::Candidate { asked, .. } if !asked.is_empty() => {
                asked.clear(); // who does not answer in time is down (assumption 8)
                self.proceed(now, out);
                if let Role::Candidate { reason, .. } = self.role {
                    self.stand(now, reason, out);
                }
            }
            Role::Candidate { reason, .. } | Role::Claimant { reason, .. } => {
                let reason = *reason;
                self.stand(now, reason, out);
            }
            Role::Leader { .. } if self.config.quorum => self.step_down(now, Reason::LostQuorum, out),
            Role::Leader { .. } => {}
            Role::Leaving { .. } => self.on_ended(now, out),
        }
    }

    /// Waits for a leader without knowing one.
    pub(super) fn wait(&mut self, reason: Reason, out: &mut Effects<Self>) {
        self.role = Role::Follower { leader: None, reason };
        out.set_timer(Timer::Silence, self.config.silence());
    }

    /// There is no leader: stands, as soon as it may.
    pub(super) fn stand_soon(&mut self, now: Time, reason: Reason, out: &mut Effects<Self>) {
        if self.may_stand(now) {
            return self.stand(now, reason, out);
        }
        self.role = Role::Follower { leader: None, reason };
        let rest = self.rests_until.max(self.held_until).since(now);
        out.set_timer(Timer::Silence, rest..=rest + self.config.margin());
    }

    /// Election, first part: asks all that are better whether they are there. Those that were silent for a time-out are not
    /// waited for. With a quorum the worse ones are asked, too, whether they would promise.
    pub(super) fn stand(&mut self, now: Time, reason: Reason, out: &mut Effects<Self>) {
        if !matches!(self.role, Role::Candidate { .. } | Role::Claimant { .. }) {
            self.counters.elections += 1;
            out.emit(Event::Election { reason });
        }
        let mut asked = BTreeSet::new();
        for (id, peer) in &self.peers {
            let is_better = self.is_better(*id);
            if is_better || self.config.quorum {
                self.send(*id, Body::Election, out);
            }
            if is_better && !self.is_silent(now, peer) {
                asked.insert(*id);
            }
        }
        let patience = if asked.is_empty() { self.config.heartbeat } else { self.config.timeout };
        out.set_timer(Timer::Silence, patience..=patience + self.config.heartbeat);
        self.role = Role::Candidate { reason, asked, willing: BTreeSet::new() };
        self.proceed(now, out);
    }

    /// Somebody holds an election. Who is better answers, and stands itself.
    pub(super) fn on_election(&mut self, now: Time, from: Id, out: &mut Effects<Self>) {
        let mine = !self.is_better(from);
        match self.role {
            Role::Leader { .. } if mine || self.config.sticky => self.send(from, self.greeting(now), out),
            Role::Leader { .. } => self.step_down(now, Reason::BetterIdStarted, out),
            Role::Leaving { .. } => {}
            Role::Follower { .. } | Role::Candidate { .. } | Role::Claimant { .. } if self.is_held(now) => {}
            Role::Follower { leader, .. } if mine && self.may_stand(now) => {
                self.send(from, Body::Answer, out);
                if leader.is_none() || !self.config.sticky {
                    self.stand(now, Reason::WorseIdAsked, out);
                }
            }
            Role::Follower { reason: Reason::Start, .. } if mine => {} // it will stand as soon as it has listened
            Role::Candidate { .. } | Role::Claimant { .. } if mine => self.send(from, Body::Answer, out),
            Role::Follower { .. } | Role::Candidate { .. } | Role::Claimant { .. } => {
                if mine || self.config.quorum {
                    self.send(from, Body::Willing, out);
                }
            }
        }
    }

    /// Somebody better is there: leaves it to him, and calls another election if nothing comes of it.
    pub(super) fn on_answer(&mut self, from: Id, out: &mut Effects<Self>) {
        if matches!(self.role, Role::Candidate { .. }) && self.is_better(from) {
            self.wait(Reason::NoCoordinator, out);
        }
    }

    /// Somebody is no obstacle.
    pub(super) fn on_willing(&mut self, now: Time, from: Id, out: &mut Effects<Self>) {
        if let Role::Candidate { asked, willing, .. } = &mut self.role {
            asked.remove(&from);
            willing.insert(from);
            self.proceed(now, out);
        }
    }

    /// Election, second part, once nobody better is left.
    fn proceed(&mut self, now: Time, out: &mut Effects<Self>) {
        let Role::Candidate { reason, asked, willing } = &self.role else { return };
        let reason = *reason;
        if !asked.is_empty() {
        } else if !self.config.quorum {
            self.lead(now, reason, BTreeMap::new(), out);
        } else if self.is_majority(willing.len()) {
            self.claim(now, reason, out);
        }
    }

    /// Asks everybody for a promise of the next term, itself first.
    fn claim(&mut self, now: Time, reason: Reason, out: &mut Effects<Self>) {
        self.make_promise(Promise { term: self.seen.next(), to: self.config.id }, out);
        self.role = Role::Claimant { reason, promised: BTreeMap::new() };
        self.tell_all(Body::Claim { sent: now }, out);
        out.set_timer(Timer::Silence, self.config.timeout..=self.config.timeout + self.config.heartbeat);
        self.count_promises(now, out);
    }

    /// Promises each term once, and none while somebody may rely on an earlier promise.
    pub(super) fn on_claim(&mut self, now: Time, from: Id, term: Term, sent: Time, out: &mut Effects<Self>) {
        let promise = Promise { term, to: from };
        let is_new = term > self.term() || (cfg!(mutant = "bully_two_promises_a_term") && term == self.term());
        let is_busy = matches!(self.role, Role::Leader { .. } | Role::Leaving { .. }) || self.is_held(now);
        // The first answer may be lost: say it again, relied on from now. Who has a leader by now need not.
        let is_again = self.promise == Some(promise) && self.leader().is_none();
        if !is_again && (is_busy || !is_new) {
            return;
        }
        if is_new {
            self.make_promise(promise, out);
        }
        self.hold(now);
        self.wait(Reason::NoCoordinator, out);
        self.send(from, Body::Promise { sent }, out);
    }

    /// A promise of the term that this node claims.
    pub(super) fn on_promise(&mut self, now: Time, from: Id, term: Term, sent: Time, out: &mut Effects<Self>) {
        let is_claimed = term == self.term();
        if let Role::Claimant { promised, .. } = &mut self.role
            && is_claimed
        {
            promised.insert(from, sent);
            self.count_promises(now, out);
        }
    }

    fn count_promises(&mut self, now: Time, out: &mut Effects<Self>) {
        let Role::Claimant { reason, promised } = &self.role else { return };
        let (reason, promised) = (*reason, promised.clone());
        let is_majority = self.is_majority(promised.len()) || cfg!(mutant = "bully_leads_without_majority");
        // What was promised too long ago may be promised to another one by now.
        let is_in_time = self.lease_end(&promised).is_none_or(|end| end > now);
        if is_majority && is_in_time {
            self.lead(now, reason, promised, out);
        }
    }

    /// One durable promise a term; what follows waits for the disk.
    pub(super) fn make_promise(&mut self, promise: Promise, out: &mut Effects<Self>) {
        self.promise = Some(promise);
        self.seen = self.seen.max(promise.term);
        if !cfg!(mutant = "bully_promise_not_persisted") {
            out.persist(promise);
        }
    }
}
