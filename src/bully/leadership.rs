//! To lead and to follow: heartbeats, leases, and the end of a leadership.

use std::collections::BTreeMap;

use super::message::{Body, Event, Promise, Reason, Timer};
use super::state::{Bully, Role};
use super::types::{Id, Term};
use crate::protocol::{Effects, Time};

impl Bully {
    /// Election, last part: tells everybody. In the classic mode a new term begins here; with a quorum it was claimed.
    pub(super) fn lead(&mut self, now: Time, reason: Reason, answered: BTreeMap<Id, Time>, out: &mut Effects<Self>) {
        if !self.config.quorum {
            self.seen = self.seen.next();
        }
        let term = if self.config.quorum { self.term() } else { self.seen };
        self.role = Role::Leader { term, reason, answered };
        out.emit(Event::Leader { leader: self.config.id, term, reason });
        self.tell_all(self.greeting(now), out);
        self.renew(now, out);
    }

    /// A leader runs out of time when its majority falls silent; without a quorum it never does.
    fn renew(&self, now: Time, out: &mut Effects<Self>) {
        match self.leads_until() {
            Some(end) => out.set_timer(Timer::Silence, end.since(now)..=end.since(now)),
            None => out.cancel_timer(Timer::Silence),
        }
    }

    /// Tells everybody that this node is there, and notes who is not (Check).
    pub(super) fn beat(&mut self, now: Time, out: &mut Effects<Self>) {
        out.set_timer(Timer::Heartbeat, self.config.heartbeat..=self.config.heartbeat);
        self.tell_all(self.greeting(now), out);
        let timeout = self.config.timeout;
        for (id, peer) in &mut self.peers {
            if peer.alive && now.since(peer.heard) >= timeout {
                peer.alive = false;
                out.emit(Event::PeerDown { peer: *id });
            }
        }
    }

    /// What this node says when it has nothing else to say.
    pub(super) const fn greeting(&self, now: Time) -> Body {
        match self.role {
            Role::Leader { reason, .. } => Body::Coordinator { sent: now, reason },
            Role::Follower { .. } | Role::Candidate { .. } | Role::Claimant { .. } | Role::Leaving { .. } => {
                Body::Alive
            }
        }
    }

    /// A peer is there. One that was not is told at once who is here, and the term.
    pub(super) fn hear(&mut self, now: Time, from: Id, out: &mut Effects<Self>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.heard = peer.heard.max(now);
        if !std::mem::replace(&mut peer.alive, true) {
            out.emit(Event::PeerUp { peer: from });
            self.send(from, self.greeting(now), out);
        }
    }

    /// Somebody holds to a term beyond this leader's. With a quorum he cannot follow any more until there is a new leader.
    /// In the classic mode the leader takes a term beyond that, unless it has to do with another leader: see
    /// [`Bully::on_classic_coordinator`].
    pub(super) fn on_newer_term(&mut self, now: Time, body: Body, out: &mut Effects<Self>) {
        match self.role {
            Role::Leader { .. } if self.config.quorum => self.step_down(now, Reason::HigherTerm, out),
            Role::Leader { .. } if !matches!(body, Body::Coordinator { .. }) => {
                self.lead(now, Reason::HigherTerm, BTreeMap::new(), out);
            }
            Role::Leader { .. }
            | Role::Follower { .. }
            | Role::Candidate { .. }
            | Role::Claimant { .. }
            | Role::Leaving { .. } => {}
        }
    }

    /// A leader speaks, in the classic mode. `held` is the term that this node held to until now.
    pub(super) fn on_classic_coordinator(
        &mut self,
        now: Time,
        from: Id,
        held: Term,
        term: Term,
        reason: Reason,
        out: &mut Effects<Self>,
    ) {
        let from_better = self.is_better(from);
        if let Role::Leader { .. } = self.role {
            // Two leaders have found each other: by the rule, or when nobody is to take over, by the newer term.
            let yields = if self.config.sticky { (term, from_better) > (held, false) } else { from_better };
            if !yields && term >= held && !self.config.sticky {
                return self.lead(now, Reason::HigherTerm, BTreeMap::new(), out);
            }
            if !yields {
                return self.send(from, self.greeting(now), out);
            }
            let reason = if from_better { Reason::BetterIdStarted } else { Reason::HigherTerm };
            self.step_down(now, reason, out);
        }
        let is_older = match self.role {
            Role::Follower { leader: Some((leader, _)), .. } => {
                term < held || term == held && self.config.rule.prefers(leader, from)
            }
            Role::Follower { leader: None, .. }
            | Role::Candidate { .. }
            | Role::Claimant { .. }
            | Role::Leader { .. }
            | Role::Leaving { .. } => term < held,
        };
        if is_older {
            self.send(from, Body::Alive, out); // which tells him the term
        } else if from_better || self.config.sticky || !self.may_stand(now) {
            self.follow(from, term, reason, out);
        } else if !matches!(self.role, Role::Candidate { .. } | Role::Leaving { .. }) {
            self.stand(now, Reason::BetterIdStarted, out);
        }
    }

    /// A leader speaks that has a quorum: it is followed unless this node has promised a later term, and told that others
    /// will not get a promise for a while. Who is better, and reaches a majority, asks it to make way.
    pub(super) fn on_coordinator(
        &mut self,
        now: Time,
        from: Id,
        term: Term,
        sent: Time,
        reason: Reason,
        out: &mut Effects<Self>,
    ) {
        if term < self.term() && !cfg!(mutant = "bully_follows_a_lower_term") {
            return self.send(from, Body::Alive, out); // which tells him the term
        }
        if term > self.term() {
            self.make_promise(Promise { term, to: from }, out); // his majority needs no other: a restart knows the term
        }
        self.hold(now);
        self.follow(from, term, reason, out);
        self.send(from, Body::Following { sent }, out);
        let alive = self.peers.values().filter(|peer| peer.alive).count();
        if !self.is_better(from) && !self.config.sticky && now >= self.rests_until && self.is_majority(alive) {
            self.send(from, Body::Election, out);
        }
    }

    /// A leader relies on this node from now on.
    pub(super) fn hold(&mut self, now: Time) {
        self.held_until = self.held_until.max(now + *self.config.silence().start());
    }

    fn follow(&mut self, leader: Id, term: Term, reason: Reason, out: &mut Effects<Self>) {
        let is_known = matches!(self.role, Role::Follower { leader: Some(known), .. } if known == (leader, term));
        if !is_known {
            out.emit(Event::Leader { leader, term, reason });
        }
        self.role = Role::Follower { leader: Some((leader, term)), reason: Reason::HeartbeatTimeout };
        out.set_timer(Timer::Silence, self.config.silence());
    }

    /// A follower has heard what this leader said at `sent`.
    pub(super) fn on_following(&mut self, now: Time, from: Id, term: Term, sent: Time, out: &mut Effects<Self>) {
        let is_led = term == self.term();
        if let Role::Leader { answered, .. } = &mut self.role
            && is_led
        {
            let latest = answered.entry(from).or_insert(sent);
            *latest = sent.max(*latest);
            self.renew(now, out);
        }
    }

    /// Hands over when asked to.
    pub(super) fn resign(&mut self, now: Time, out: &mut Effects<Self>) {
        if matches!(self.role, Role::Leader { .. }) {
            self.rests_until = now + self.config.grace + self.config.timeout + self.config.margin();
            self.step_down(now, Reason::Resigned, out);
        }
    }

    /// Leads no longer. It tells the others once its command is over, and until then promises nothing itself. In the
    /// classic mode somebody else leads already, unless it has resigned.
    pub(super) fn step_down(&mut self, now: Time, reason: Reason, out: &mut Effects<Self>) {
        if cfg!(mutant = "bully_no_step_down") && reason == Reason::LostQuorum {
            return;
        }
        let term = self.term();
        out.emit(Event::StepDown { term, reason });
        if self.config.quorum || reason == Reason::Resigned {
            let over = self.config.grace + self.config.margin();
            self.held_until = self.held_until.max(now + over);
            self.role = Role::Leaving { term, reason };
            out.set_timer(Timer::Silence, over..=over);
        } else {
            self.wait(Reason::HeartbeatTimeout, out);
        }
    }

    /// The command is over: everybody may elect at once.
    pub(super) fn on_ended(&mut self, now: Time, out: &mut Effects<Self>) {
        if let Role::Leaving { reason, .. } = self.role {
            self.held_until = now;
            self.tell_all(Body::Released { reason }, out);
            self.wait(reason, out);
        }
    }

    /// The leader that this node follows, or the one of the term that it promised, leads no longer.
    pub(super) fn on_released(&mut self, now: Time, from: Id, term: Term, reason: Reason, out: &mut Effects<Self>) {
        let Role::Follower { leader, .. } = self.role else { return };
        if leader.map_or(term == self.term(), |leader| leader == (from, term)) {
            self.held_until = now;
            self.stand_soon(now, reason, out);
        }
    }
}
