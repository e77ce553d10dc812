//! The simulated world: nodes with their disks, a network between them, and time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::faults::{Faults, Kind, TICK, Tally, draw_within, happens, pick};
use super::observe::{Look, Observable, changed};
use super::trace::{Flight, Keep, Loss, Moment, Trace, What};
use crate::host::{self, Host};
use crate::protocol::{Input, Protocol, Time};

/// A driver may be late by this much to fire a timer, so that inputs gather as they do behind a real queue.
const LATENESS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_micros(200);
const DISK: RangeInclusive<Duration> = Duration::from_micros(50)..=Duration::from_micros(500);
/// What takes longer counts as delayed.
const USUAL_DELAY: Duration = Duration::from_millis(2);
const SLOW_DISK: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_millis(200);

/// Makes the machine of a node from a random number and what its disk kept.
pub type Spawn<P> = Box<dyn Fn(<P as Protocol>::Peer, u64, Vec<<P as Protocol>::Record>) -> P>;

/// A deterministic world.
pub struct World<P: Observable> {
    now: Time,
    rng: ChaCha8Rng,
    /// What will happen, by time and then by the order in which it was scheduled.
    queue: BTreeMap<(Time, u64), SimEvent<P>>,
    scheduled: u64,
    /// Names messages on their way.
    flights: u64,
    spawn: Spawn<P>,
    peers: Vec<P::Peer>,
    /// Every name there ever was, in the order in which it was first seen; some are of nobody.
    numbers: RefCell<Vec<P::Peer>>,
    nodes: BTreeMap<P::Peer, Node<P>>,
    cuts: BTreeSet<(P::Peer, P::Peer)>,
    faults: Faults,
    /// How long a sync takes on disks that are unlike the others.
    disks: BTreeMap<P::Peer, RangeInclusive<Duration>>,
    occurrences: Vec<Occurrence<P>>,
    trace: Trace,
    tally: Tally,
    /// The present second of virtual time, and how many steps it has had.
    pace: (u64, u64),
}

/// What a run tells its caller, in order.
#[derive(Debug)]
pub enum Occurrence<P: Protocol> {
    /// A node told its application.
    Emitted {
        /// The node.
        node: P::Peer,
        /// What it told.
        event: P::Event,
    },
    /// Records have become durable on a node's disk.
    Durable {
        /// The node.
        node: P::Peer,
        /// The records.
        records: Vec<P::Record>,
    },
    /// A node crashed: what it was asked and has not answered is never answered.
    Crashed {
        /// The node.
        node: P::Peer,
    },
    /// A node came back.
    Restarted {
        /// The node.
        node: P::Peer,
    },
}

struct Node<P: Protocol> {
    /// None while it is down.
    host: Option<Host<P>>,
    disk: Vec<P::Record>,
    /// On its way to the disk.
    writing: Option<Vec<P::Record>>,
    /// Counts its boots, so that what was scheduled for an earlier one does not happen to a later one.
    boot: u64,
    paused_until: Time,
    /// It never starts again.
    retired: bool,
    wake_at: Option<Time>,
    /// As it was last seen by the trace.
    seen: Vec<Look>,
}

enum SimEvent<P: Protocol> {
    Arrives { id: u64, from: P::Peer, to: P::Peer, message: P::Message },
    DiskDone { node: P::Peer, boot: u64 },
    Wake { node: P::Peer, boot: u64 },
    Restart { node: P::Peer, boot: u64 },
    Joins { from: P::Peer, to: P::Peer },
    FaultTick,
}

impl<P: Observable> World<P> {
    /// A world with these nodes, all started, and without faults.
    pub fn new(seed: u64, peers: Vec<P::Peer>, spawn: Spawn<P>, keep: Keep) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            scheduled: 0,
            flights: 0,
            spawn,
            nodes: BTreeMap::new(),
            cuts: BTreeSet::new(),
            faults: Faults::none(),
            disks: BTreeMap::new(),
            occurrences: Vec::new(),
            trace: Trace::new(keep),
            tally: Tally::default(),
            pace: (0, 0),
            numbers: RefCell::new(peers.clone()),
            peers,
        };
        for node in world.peers.clone() {
            world.nodes.insert(node, Node::new());
            world.restart(node);
        }
        world.schedule(TICK, SimEvent::FaultTick);
        world
    }

    /// Virtual time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The world's generator, for whoever drives it.
    pub const fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// The trace so far.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The faults that have happened.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// One more fault, of a kind that whoever drives the world makes.
    pub fn count(&mut self, kind: Kind) {
        self.tally.count(kind);
    }

    /// How much has happened in the present second of virtual time.
    pub const fn steps_this_second(&self) -> u64 {
        self.pace.1
    }

    /// The moments since this was last asked, when they are kept.
    pub fn take_moments(&mut self) -> Vec<Moment> {
        self.trace.take_moments()
    }

    /// All nodes but those that are retired.
    pub fn peers(&self) -> &[P::Peer] {
        &self.peers
    }

    /// A node's machine, unless it is down.
    pub fn machine(&self, node: P::Peer) -> Option<&P> {
        self.nodes[&node].host.as_ref().map(Host::machine)
    }

    /// A node's machine, if it is up and everything it has persisted is durable.
    pub fn settled_machine(&self, node: P::Peer) -> Option<&P> {
        self.nodes[&node].host.as_ref().filter(|host| host.is_settled()).map(Host::machine)
    }

    /// The machines that are up.
    pub fn machines(&self) -> impl Iterator<Item = &P> {
        self.nodes.values().filter_map(|node| node.host.as_ref()).map(Host::machine)
    }

    /// What happened since this was last asked.
    pub fn take_occurrences(&mut self) -> Vec<Occurrence<P>> {
        std::mem::take(&mut self.occurrences)
    }

    /// From its next write on, a sync of that node's disk takes so long.
    pub fn set_disk(&mut self, node: P::Peer, sync: RangeInclusive<Duration>) {
        self.disks.insert(node, sync);
    }

    /// From now on, these faults happen.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Every fault ends: links join, nodes go on or come back.
    pub fn heal(&mut self) {
        self.faults = Faults::none();
        self.cuts.clear();
        self.trace.hash_in(self.now, format_args!("heal"));
        self.trace.moment(self.now, || What::Healed);
        for node in self.peers.clone() {
            self.nodes.get_mut(&node).expect("a node").paused_until = self.now;
            self.restart(node);
        }
    }

    /// Asks a node something. False when it is down.
    pub fn request(&mut self, node: P::Peer, command: P::Command) -> bool {
        if self.nodes[&node].host.is_none() {
            return false;
        }
        self.input(node, Input::Requested(command));
        true
    }

    /// The node stops; what it has not made durable is lost, though the disk may have got the beginning of it.
    pub fn crash(&mut self, node: P::Peer) {
        let state = self.nodes.get_mut(&node).expect("a node");
        if state.host.take().is_none() {
            return;
        }
        state.boot += 1;
        state.wake_at = None;
        if let Some(writing) = state.writing.take() {
            let kept = (self.rng.next_u64() % (writing.len() as u64 + 1)) as usize;
            let records = writing[..kept].to_vec();
            state.disk.extend(records.iter().cloned());
            self.occurrences.push(Occurrence::Durable { node, records });
        }
        state.seen.clear();
        state.paused_until = self.now; // who is dead is not paused
        self.trace.hash_in(self.now, format_args!("{node:?} crashes with {} records", state.disk.len()));
        let number = self.number(node);
        self.trace.moment(self.now, || What::Crashed { node: number });
        self.occurrences.push(Occurrence::Crashed { node });
    }

    /// The node starts again from its disk, if it is down.
    pub fn restart(&mut self, node: P::Peer) {
        let state = self.nodes.get_mut(&node).expect("a node");
        if state.host.is_some() || state.retired {
            return;
        }
        state.boot += 1;
        state.host = Some(Host::new((self.spawn)(node, self.rng.next_u64(), state.disk.clone()), self.rng.next_u64()));
        let records = state.disk.len();
        self.trace.hash_in(self.now, format_args!("{node:?} starts with {records} records"));
        let number = self.number(node);
        self.trace.moment(self.now, || What::Started { node: number, records });
        self.occurrences.push(Occurrence::Restarted { node });
        self.input(node, Input::Started);
    }

    /// The node stops and loses its disk; what was on its way to it, or from it, does not arrive.
    pub fn wipe(&mut self, node: P::Peer) {
        self.crash(node);
        self.nodes.get_mut(&node).expect("a node").disk.clear();
        let concerns_it =
            |h: &SimEvent<P>| matches!(h, SimEvent::Arrives { from, to, .. } if *from == node || *to == node);
        self.queue.retain(|_, event| !concerns_it(event));
        self.trace.hash_in(self.now, format_args!("{node:?} is wiped"));
    }

    /// Another node starts, with an empty disk.
    pub fn add(&mut self, node: P::Peer) {
        self.peers.push(node);
        self.nodes.insert(node, Node::new());
        self.restart(node);
    }

    /// The node stops for good.
    pub fn retire(&mut self, node: P::Peer) {
        self.crash(node);
        self.nodes.get_mut(&node).expect("a node").retired = true;
        self.peers.retain(|peer| *peer != node);
    }

    /// Messages from `from` to `to` are lost until the link joins.
    pub fn cut(&mut self, from: P::Peer, to: P::Peer) {
        self.trace.hash_in(self.now, format_args!("cut {from:?} -> {to:?}"));
        let (a, b) = (self.number(from), self.number(to));
        if self.cuts.insert((from, to)) {
            self.trace.moment(self.now, || What::Cut { from: a, to: b });
        }
    }

    /// Messages from `from` to `to` arrive again.
    pub fn join(&mut self, from: P::Peer, to: P::Peer) {
        self.trace.hash_in(self.now, format_args!("join {from:?} -> {to:?}"));
        let (a, b) = (self.number(from), self.number(to));
        if self.cuts.remove(&(from, to)) {
            self.trace.moment(self.now, || What::Joined { from: a, to: b });
        }
    }

    /// The node, if it is up, does nothing for a while, then goes on as if nothing had been; messages wait.
    pub fn pause(&mut self, node: P::Peer, duration: Duration) {
        if self.nodes[&node].host.is_none() {
            return;
        }
        self.trace.hash_in(self.now, format_args!("{node:?} pauses for {duration:?}"));
        let number = self.number(node);
        self.trace.moment(self.now, || What::Paused { node: number, lasts: duration });
        self.nodes.get_mut(&node).expect("a node").paused_until = self.now + duration;
    }

    /// Lets the next thing happen, unless that is after `until`: then time is `until`, and the answer false.
    pub fn advance(&mut self, until: Time) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        let ((at, _), event) = entry.remove_entry();
        self.now = at;
        self.trace.next_step();
        let second = at.since_epoch().as_secs();
        self.pace = (second, if second == self.pace.0 { self.pace.1 + 1 } else { 1 });
        match event {
            SimEvent::Arrives { id, from, to, message } => self.arrive(id, from, to, message),
            SimEvent::DiskDone { node, boot } => self.disk_done(node, boot),
            SimEvent::Wake { node, boot } => self.wake(node, boot),
            SimEvent::Restart { node, boot } if self.nodes[&node].boot == boot => self.restart(node),
            SimEvent::Restart { .. } => {}
            SimEvent::Joins { from, to } => self.join(from, to),
            SimEvent::FaultTick => self.draw_faults(),
        }
        true
    }

    fn schedule(&mut self, after: Duration, event: SimEvent<P>) {
        self.scheduled += 1;
        self.queue.insert((self.now + after, self.scheduled), event);
    }

    /// How long the node will still be paused, if it is.
    fn paused(&self, node: P::Peer) -> Option<Duration> {
        let left = self.nodes[&node].paused_until.since(self.now);
        (!left.is_zero()).then_some(left)
    }

    fn arrive(&mut self, id: u64, from: P::Peer, to: P::Peer, message: P::Message) {
        // A protocol that is told addresses may send to one where there never was a node.
        if self.nodes.get(&to).is_none_or(|node| node.host.is_none()) {
            let flight = |world: &Self| What::Lost(world.flight(id, from, to, &message), Loss::Down);
            return self.note(flight);
        }
        if let Some(left) = self.paused(to) {
            return self.schedule(left, SimEvent::Arrives { id, from, to, message });
        }
        self.note(|world| What::Delivered(world.flight(id, from, to, &message)));
        self.trace.hash_in(self.now, format_args!("{to:?} <- {from:?} {message:?}"));
        self.input(to, Input::Received { from, message });
    }

    fn disk_done(&mut self, node: P::Peer, boot: u64) {
        if self.nodes[&node].boot != boot {
            return;
        }
        if let Some(left) = self.paused(node) {
            return self.schedule(left, SimEvent::DiskDone { node, boot });
        }
        let state = self.nodes.get_mut(&node).expect("a node");
        let records = state.writing.take().expect("a write was on its way");
        self.trace.hash_in(self.now, format_args!("{node:?} durable {records:?}"));
        state.disk.extend(records.iter().cloned());
        let count = records.len();
        state.host.as_mut().expect("it is up").batch_durable(self.now);
        self.occurrences.push(Occurrence::Durable { node, records });
        self.note(|world| What::Persisted { node: world.number(node), records: count });
        self.settle(node);
        if happens(&mut self.rng, self.faults.crash_on_sync) {
            self.crash_for_a_while(node);
        }
    }

    fn wake(&mut self, node: P::Peer, boot: u64) {
        if self.nodes[&node].boot != boot {
            return;
        }
        if let Some(left) = self.paused(node) {
            return self.schedule(left, SimEvent::Wake { node, boot });
        }
        let now = self.now;
        let state = self.nodes.get_mut(&node).expect("a node");
        if state.wake_at.is_some_and(|at| at <= now) {
            state.wake_at = None;
        }
        state.host.as_mut().expect("it is up").fire_due(now);
        self.settle(node);
    }

    fn input(&mut self, node: P::Peer, input: Input<P>) {
        let now = self.now;
        if let Some(host) = &mut self.nodes.get_mut(&node).expect("a node").host {
            host.step(now, input);
            self.settle(node);
        }
    }

    /// Does for a node what its driver does after each step.
    fn settle(&mut self, node: P::Peer) {
        let state = self.nodes.get_mut(&node).expect("a node");
        let host = state.host.as_mut().expect("it is up");
        let boot = state.boot;
        let batch = host.take_batch(self.now);
        let outputs: Vec<_> = std::iter::from_fn(|| host.next_output()).collect();
        let wake_at =
            host.next_deadline().map(|deadline| deadline.max(self.now) + draw_within(&mut self.rng, &LATENESS));
        if let Some(at) = wake_at
            && state.wake_at.is_none_or(|earlier| at < earlier)
        {
            state.wake_at = Some(at);
            self.schedule(at.since(self.now), SimEvent::Wake { node, boot });
        }
        if let Some(batch) = batch {
            self.nodes.get_mut(&node).expect("a node").writing = Some(batch);
            let slow = happens(&mut self.rng, self.faults.slow_disk);
            if slow {
                self.tally.count(Kind::Disk);
            }
            let speed = if slow { &SLOW_DISK } else { self.disks.get(&node).unwrap_or(&DISK) };
            let after = draw_within(&mut self.rng, speed);
            self.schedule(after, SimEvent::DiskDone { node, boot });
        }
        self.look_at(node);
        for output in outputs {
            match output {
                host::Output::Send { to, message } => self.transmit(node, to, &message),
                host::Output::Emit(event) => {
                    self.trace.hash_in(self.now, format_args!("{node:?} tells {event:?}"));
                    self.occurrences.push(Occurrence::Emitted { node, event });
                }
            }
        }
    }

    fn transmit(&mut self, from: P::Peer, to: P::Peer, message: &P::Message) {
        let id = self.flights + 1;
        self.flights = id;
        self.note(|world| What::Sent(world.flight(id, from, to, message)));
        let cut = self.cuts.contains(&(from, to));
        if cut || happens(&mut self.rng, self.faults.loss) {
            let why = if cut { Loss::Cut } else { Loss::Chance };
            if !cut {
                self.tally.count(Kind::Loss);
            }
            return self.note(|world| What::Lost(world.flight(id, from, to, message), why));
        }
        let copy = happens(&mut self.rng, self.faults.duplication).then_some(id + 1);
        for id in [Some(id), copy].into_iter().flatten() {
            if id > self.flights {
                self.flights = id;
                self.tally.count(Kind::Dup);
                self.note(|world| What::Sent(world.flight(id, from, to, message)));
            }
            let delay = draw_within(&mut self.rng, &self.faults.delay);
            if delay > USUAL_DELAY {
                self.tally.count(Kind::Delay);
            }
            self.schedule(delay, SimEvent::Arrives { id, from, to, message: message.clone() });
        }
    }

    /// Adds a moment to the trace, if moments are kept.
    fn note(&mut self, what: impl FnOnce(&Self) -> What) {
        if self.trace.keeps_moments() {
            let what = what(self);
            self.trace.moment(self.now, || what);
        }
    }

    fn flight(&self, id: u64, from: P::Peer, to: P::Peer, message: &P::Message) -> Flight {
        Flight { id, from: self.number(from), to: self.number(to), label: P::label(message) }
    }

    /// Notes what has changed about a node since it was last looked at. What its disk has yet to confirm is not seen.
    fn look_at(&mut self, node: P::Peer) {
        if !self.trace.keeps_moments() {
            return;
        }
        let Some(machine) = self.settled_machine(node) else { return };
        let looks = machine.looks(|peer| self.number(peer));
        let before = std::mem::replace(&mut self.nodes.get_mut(&node).expect("a node").seen, looks.clone());
        for look in changed(&before, &looks) {
            self.note(|world| What::Changed { node: world.number(node), look: look.clone() });
        }
    }

    /// Nodes are numbered from 1, in the order in which they were first seen.
    fn number(&self, node: P::Peer) -> usize {
        let mut numbers = self.numbers.borrow_mut();
        1 + numbers.iter().position(|peer| *peer == node).unwrap_or_else(|| {
            numbers.push(node);
            numbers.len() - 1
        })
    }

    fn draw_faults(&mut self) {
        self.schedule(TICK, SimEvent::FaultTick);
        let faults = self.faults.clone();
        if happens(&mut self.rng, faults.cut) {
            let (a, b) = (pick(&mut self.rng, &self.peers), pick(&mut self.rng, &self.peers));
            let links: Vec<_> = match self.rng.next_u64() % 3 {
                0 => vec![(a, b)],
                1 => vec![(a, b), (b, a)],
                _ => self.peers.iter().flat_map(|&other| [(a, other), (other, a)]).collect(),
            };
            self.tally.count(Kind::Partition);
            let lasts = draw_within(&mut self.rng, &faults.cut_for);
            for (from, to) in links.into_iter().filter(|(from, to)| from != to) {
                self.cut(from, to);
                self.schedule(lasts, SimEvent::Joins { from, to });
            }
        }
        if happens(&mut self.rng, faults.crash) {
            let node = pick(&mut self.rng, &self.peers);
            self.crash_for_a_while(node);
        }
        if happens(&mut self.rng, faults.pause) {
            let node = pick(&mut self.rng, &self.peers);
            self.tally.count(Kind::Pause);
            let lasts = draw_within(&mut self.rng, &faults.pause_for);
            self.pause(node, lasts);
        }
    }

    fn crash_for_a_while(&mut self, node: P::Peer) {
        let lasts = draw_within(&mut self.rng, &self.faults.down_for);
        if self.nodes[&node].host.is_some() {
            self.tally.count(Kind::Crash);
        }
        self.crash(node);
        let boot = self.nodes[&node].boot;
        self.schedule(lasts, SimEvent::Restart { node, boot });
    }
}

impl<P: Protocol> Node<P> {
    const fn new() -> Self {
        Self {
            host: None,
            disk: Vec::new(),
            writing: None,
            boot: 0,
            paused_until: Time::ZERO,
            retired: false,
            wake_at: None,
            seen: Vec::new(),
        }
    }
}
