//! A protocol under test: how its nodes start, what is asked of them, what must always hold, and one run of it.
//!
//! A run has two phases: faults drawn from the seed, then healing, after which all must recover in time. A protocol joins in
//! with two traits: its machine is [`Observable`], and a [`Scenario`] plays its clients and checks what it promises.

use std::any::Any;
use std::fmt;
use std::ops::{AddAssign, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use super::faults::{Faults, Kind, Tally};
use super::observe::Observable;
use super::trace::{Keep, Moment};
use super::world::{Occurrence, Spawn, World};
use crate::protocol::{Protocol, Time};

/// Steps in a second of virtual time, for each node. A busy one takes less than a fifth; beyond it, messages breed messages.
const MOST_STEPS: u64 = 20_000;

/// The name of a node.
pub type PeerOf<S> = <<S as Scenario>::Machine as Protocol>::Peer;

/// What a protocol is put through. Printed, it says what its seed has decided.
pub trait Scenario: fmt::Display + Sized + 'static {
    /// The machine of each node.
    type Machine: Observable;
    /// What a run comes to in numbers: those of many are added up.
    type Figures: Default + AddAssign + fmt::Display + Serialize + Send + 'static;

    /// Kinds of faults that it makes by itself, beside those of the world.
    const OWN_FAULTS: &'static [Kind] = &[];
    /// How soon after healing everybody must have recovered.
    const RECOVERY: Duration;
    /// What everybody has done then, in words.
    const RECOVERED: &'static str = "recovered";

    /// Draws what a seed decides; [`Draws::new`] is a part of it.
    fn draw(rng: &mut ChaCha8Rng, plan: &Plan) -> Self;

    /// What of that concerns the world.
    fn draws(&self) -> &Draws;

    /// The nodes that are there in the beginning.
    fn peers(&self) -> Vec<PeerOf<Self>>;

    /// Makes a node's machine.
    fn spawn(&self) -> Spawn<Self::Machine>;

    /// When it wants to [`act`](Self::act) next.
    fn next_at(&self) -> Option<Time>;

    /// Does what is due now: asks nodes something, for one.
    fn act(&mut self, world: &mut World<Self::Machine>);

    /// Hears what happened, and checks it.
    ///
    /// # Errors
    /// Says which property does not hold.
    fn on_occurrence(
        &mut self,
        world: &mut World<Self::Machine>,
        occurrence: Occurrence<Self::Machine>,
    ) -> Result<(), String>;

    /// All faults have ended: from now on nothing may disturb the nodes.
    fn on_healed(&mut self, world: &mut World<Self::Machine>);

    /// Whether everybody has recovered.
    fn has_recovered(&self, world: &World<Self::Machine>) -> bool;

    /// Who has not, for the report of a run in which they never do.
    fn missing(&self, world: &World<Self::Machine>) -> String;

    /// Checks what can only be checked at the end, if there is anything.
    ///
    /// # Errors
    /// Says which property does not hold.
    fn check_end(&self, _world: &World<Self::Machine>) -> Result<(), String> {
        Ok(())
    }

    /// What the run came to.
    fn figures(&self) -> Self::Figures;
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How long faults last, in virtual time.
    pub faults_for: Duration,
    /// Which kinds of faults; None is all of them.
    pub faults: Option<Vec<Kind>>,
    /// How long a sync takes on each node's disk, in their turn; fast disks when there is none.
    pub disks: Vec<RangeInclusive<Duration>>,
    /// How much of the run is kept.
    pub keep: Keep,
}

impl Plan {
    /// Whether there may be faults of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.faults.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self { nodes: 5, faults_for: Duration::from_secs(30), faults: None, disks: Vec::new(), keep: Keep::Hash }
    }
}

/// What a seed decides of the world.
#[derive(Clone, Debug)]
pub struct Draws {
    /// The seed of everything that happens in it.
    pub seed: u64,
    /// The rates of faults.
    pub faults: Faults,
}

impl Draws {
    /// The next that the generator gives.
    pub fn new(rng: &mut ChaCha8Rng, plan: &Plan) -> Self {
        let seed = rng.next_u64();
        Self { seed, faults: Faults::draw(rng).only(|kind| plan.has(kind)) }
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Report<F> {
    /// How often which faults happened.
    pub faults: Tally,
    /// How long after healing everybody had recovered.
    pub recovery: Duration,
    /// The hash of the trace, if it was kept.
    pub trace_hash: u64,
    /// The trace, if it was kept.
    pub trace: Vec<Moment>,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// The scenario's own.
    pub figures: F,
}

/// A property that did not hold.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Violation {
    /// Which one, and where.
    pub what: String,
    /// The trace up to there, if it was kept.
    pub trace: Vec<Moment>,
}

/// The scenario of a seed, before anything happens.
pub fn draw<S: Scenario>(seed: u64, plan: &Plan) -> S {
    S::draw(&mut ChaCha8Rng::seed_from_u64(seed), plan)
}

/// Runs one seed.
///
/// # Errors
/// The first property that did not hold.
pub fn run<S: Scenario>(seed: u64, plan: &Plan) -> Result<Report<S::Figures>, Violation> {
    let scenario: S = draw(seed, plan);
    let peers = scenario.peers();
    let mut world = World::new(scenario.draws().seed, peers.clone(), scenario.spawn(), plan.keep);
    for (peer, sync) in peers.into_iter().zip(plan.disks.iter().cycle()) {
        world.set_disk(peer, sync.clone());
    }
    let mut run = Run { scenario, world };
    outlive(|| run.whole(plan)).map_err(|what| Violation { what, trace: run.world.take_moments() })
}

/// A machine asserts what must hold for itself alone, and whoever runs it must outlive that to tell it.
pub(super) fn outlive<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let said = |panic: &(dyn Any + Send)| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it says nothing".to_owned())
    };
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(format!("a node's own assertion failed: {}", said(&*panic))))
}

struct Run<S: Scenario> {
    scenario: S,
    world: World<S::Machine>,
}

impl<S: Scenario> Run<S> {
    fn whole(&mut self, plan: &Plan) -> Result<Report<S::Figures>, String> {
        self.world.set_faults(self.scenario.draws().faults.clone());
        self.run_until(Time::ZERO + plan.faults_for, |_| false)?;
        self.world.heal();
        let healed = self.world.now();
        self.scenario.on_healed(&mut self.world);
        if !self.run_until(healed + S::RECOVERY, |run| run.scenario.has_recovered(&run.world))? {
            return Err(format!("liveness: {:?} after healing, {}", S::RECOVERY, self.scenario.missing(&self.world)));
        }
        self.scenario.check_end(&self.world)?;
        Ok(Report {
            faults: self.world.tally().clone(),
            recovery: self.world.now().since(healed),
            trace_hash: self.world.trace().hash(),
            trace: self.world.take_moments(),
            virtual_time: self.world.now().since_epoch(),
            figures: self.scenario.figures(),
        })
    }

    /// Lets time pass until `end`, or until something happens that is `enough`. True when it did.
    fn run_until(&mut self, end: Time, enough: impl Fn(&Self) -> bool) -> Result<bool, String> {
        loop {
            let (now, steps) = (self.world.now(), self.world.steps_this_second());
            if steps > MOST_STEPS * self.world.peers().len() as u64 {
                return Err(format!("livelock: {steps} steps in one second of virtual time, at {now:?}"));
            }
            let happened = self.world.advance(self.scenario.next_at().map_or(end, |next| next.min(end)));
            if !happened && self.world.now() >= end {
                return Ok(false);
            }
            if !happened {
                self.scenario.act(&mut self.world);
            }
            for occurrence in self.world.take_occurrences() {
                self.scenario.on_occurrence(&mut self.world, occurrence)?;
            }
            if happened && enough(self) {
                return Ok(true);
            }
        }
    }
}
