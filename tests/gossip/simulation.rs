//! The machine in the simulated world: what is asked of it, what must always hold, and that its checker can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::AddAssign;
use std::process::Command;
use std::time::Duration;

use netbelt::protocol::{Effect, Effects, Input, NoRecord, Protocol, Time};
use netbelt::sim::faults::{draw_within, pick};
use netbelt::sim::observe::{Label, Look, Observable, facts};
use netbelt::sim::scenario::{Draws, Plan, Scenario, Violation};
use netbelt::sim::sweep::sweep;
use netbelt::sim::trace::Keep;
use netbelt::sim::world::{Boot, Output, World};
use netbelt::sim::{jsonl, run};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::Serialize;
use serde_json::json;

use super::machine::{Gossip, Largest, Raise, Raised, Tell};

/// What the scenario needs of a machine: the real one, or one with a bug put in.
trait Numbered:
    Observable<Peer = SocketAddr, Message = Largest, Command = Raise, Event = Raised, Record = NoRecord> + 'static
{
    fn begin(others: Vec<SocketAddr>, seed: u64) -> Self;
    fn number(&self) -> u64;
}

impl Observable for Gossip {
    fn looks(&self, _: impl Fn(SocketAddr) -> usize) -> Vec<Look> {
        vec![Look { event: "state", facts: facts([("largest", json!(self.largest()))]) }]
    }

    fn label(message: &Largest) -> Label {
        Label { kind: "largest", facts: facts([("number", json!(message.0))]) }
    }
}

impl Numbered for Gossip {
    fn begin(others: Vec<SocketAddr>, seed: u64) -> Self {
        Self::new(others, seed)
    }

    fn number(&self) -> u64 {
        self.largest()
    }
}

/// Nodes that are told numbers now and then.
struct Rumours<M> {
    draws: Draws,
    peers: Vec<SocketAddr>,
    next_at: Option<Time>,
    /// Zero, and what anybody was ever told.
    raised: BTreeSet<u64>,
    /// What each node was last seen to know in its present life.
    seen: BTreeMap<SocketAddr, u64>,
    /// The largest that was known when the faults ended.
    held: u64,
    figures: Figures,
    machine: PhantomData<M>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Figures {
    told: u64,
    learned: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.told += other.told;
        self.learned += other.learned;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers told, {} learned", self.told, self.learned)
    }
}

impl<M> fmt::Display for Rumours<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.draws.faults.fmt(f)
    }
}

impl<M: Numbered> Scenario for Rumours<M> {
    type Machine = M;
    type Figures = Figures;

    const RECOVERY: Duration = Duration::from_secs(3);
    const RECOVERED: &'static str = "agree";

    fn draw(rng: &mut ChaCha8Rng, plan: &Plan) -> Self {
        Self {
            draws: Draws::new(rng, plan),
            peers: (1..=plan.nodes).map(|number| SocketAddr::from(([10, 0, 0, number as u8], 1))).collect(),
            next_at: Some(Time::ZERO),
            raised: BTreeSet::from([0]),
            seen: BTreeMap::new(),
            held: 0,
            figures: Figures::default(),
            machine: PhantomData,
        }
    }

    fn draws(&self) -> &Draws {
        &self.draws
    }

    fn peers(&self) -> Vec<SocketAddr> {
        self.peers.clone()
    }

    fn boot(&self) -> Boot<M> {
        let peers = self.peers.clone();
        Box::new(move |peer, seed, _| M::begin(peers.iter().copied().filter(|other| *other != peer).collect(), seed))
    }

    fn next_at(&self) -> Option<Time> {
        self.next_at
    }

    /// Tells somebody a number, mostly one larger than all before.
    fn act(&mut self, world: &mut World<M>) {
        let pause = draw_within(world.rng(), &(Duration::ZERO..=Duration::from_millis(400)));
        self.next_at = Some(world.now() + pause);
        let number = world.rng().next_u64() % (self.raised.last().expect("there is zero") + 20);
        let node = pick(world.rng(), &self.peers);
        self.raised.insert(number);
        self.figures.told += u64::from(world.request(node, Raise(number)));
    }

    fn on_output(&mut self, world: &mut World<M>, output: Output<M>) -> Result<(), String> {
        match output {
            Output::Emitted { .. } => self.figures.learned += 1,
            Output::Crashed { node } => _ = self.seen.remove(&node),
            Output::Restarted { .. } | Output::Durable { .. } => {}
        }
        for peer in &self.peers {
            let Some(number) = world.machine(*peer).map(M::number) else { continue };
            if !self.raised.contains(&number) {
                return Err(format!("truth: {peer} knows {number}, which nobody was told"));
            }
            match self.seen.insert(*peer, number) {
                Some(before) if number < before => {
                    return Err(format!("order: {peer} knew {before}, and now {number}"));
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    fn on_healed(&mut self, world: &mut World<M>) {
        self.next_at = None;
        self.held = world.machines().map(M::number).max().unwrap_or_default();
    }

    /// All are up by now. What was on its way may be larger than all that was known.
    fn has_recovered(&self, world: &World<M>) -> bool {
        let numbers: BTreeSet<_> = world.machines().map(M::number).collect();
        numbers.len() == 1 && numbers.first() >= Some(&self.held)
    }

    fn missing(&self, world: &World<M>) -> String {
        let numbers: Vec<_> = world.machines().map(M::number).collect();
        format!("they know {numbers:?}, and {} was known", self.held)
    }

    fn figures(&self) -> Figures {
        self.figures
    }
}

fn plan() -> Plan {
    Plan { faults_for: Duration::from_secs(10), ..Plan::default() }
}

#[test]
fn every_seed_of_faults_keeps_every_property_and_all_agree_afterwards() {
    const SEEDS: u64 = 300;
    let (mut total, mut crashes, mut seeds) = (Figures::default(), 0, 0);
    let threads = NonZeroUsize::new(2).unwrap();
    sweep::<Rumours<Gossip>>(0..SEEDS, threads, &plan(), true, |seed, result| {
        let report = result.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        total += report.figures;
        crashes += report.faults.of(netbelt::sim::faults::Kind::Crash);
        seeds += 1;
        true
    })
    .unwrap();
    assert!(total.told > 20 * SEEDS && total.learned > total.told, "the runs must do something: {total}");
    assert!(seeds == SEEDS && crashes > SEEDS, "{seeds} seeds, {crashes} crashes");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let hash = |seed| run::<Rumours<Gossip>>(seed, &plan()).unwrap_or_else(|e| panic!("seed {seed}: {e}")).trace_hash;
    for seed in 0..20 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
        assert_ne!(hash(seed), hash(seed + 1), "seed {seed}");
    }
}

#[test]
fn a_run_is_drawn_by_the_words_of_its_trace() {
    let plan = Plan { faults_for: Duration::from_secs(2), nodes: 3, keep: Keep::Moments, ..plan() };
    let report = run::<Rumours<Gossip>>(7, &plan).unwrap_or_else(|violation| panic!("{violation}"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gossip.jsonl");
    jsonl::write(&mut std::fs::File::create(&path).unwrap(), plan.nodes, false, &report.trace).unwrap();
    let drawn =
        Command::new(env!("CARGO_BIN_EXE_netsim")).arg("draw").arg(&path).args(["--from", "0s"]).output().unwrap();
    let svg = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.status.success() && svg.ends_with("</svg>\n"), "{}", String::from_utf8_lossy(&drawn.stderr));
    for part in ["largest from n1 to n2: number ", "n3: largest ", ">largest<tspan", "all faults end"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    for part in ["term", "leader", "vote", "forward"] {
        assert!(!svg.contains(&format!(">{part}")) && !svg.contains(&format!(", {part}")), "a {part} in:\n{svg}");
    }
}

/// Forgets what it knows when it hears a smaller number.
const FALLS: u8 = 0;
/// Tells others a number that nobody was told.
const INVENTS: u8 = 1;
/// Tells others nothing.
const SILENT: u8 = 2;

/// The machine with a bug put in.
struct Broken<const BUG: u8> {
    others: Vec<SocketAddr>,
    machine: Gossip,
}

impl<const BUG: u8> Protocol for Broken<BUG> {
    type Peer = SocketAddr;
    type Message = Largest;
    type Command = Raise;
    type Timer = Tell;
    type Record = NoRecord;
    type Event = Raised;

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
        let input = match input {
            Input::Started => Input::Started,
            Input::Received { from, message } => {
                if BUG == FALLS && message.0 < self.machine.largest() {
                    self.machine = Gossip::new(self.others.clone(), 0);
                }
                Input::Received { from, message }
            }
            Input::Elapsed(timer) => Input::Elapsed(timer),
            Input::Requested(command) => Input::Requested(command),
            Input::Synced { took, more } => Input::Synced { took, more },
        };
        let mut effects = Effects::new();
        self.machine.step(now, input, &mut effects);
        for effect in effects.drain() {
            match effect {
                Effect::Send { .. } if BUG == SILENT => {}
                Effect::Send { to, message } if BUG == INVENTS => out.send(to, Largest(message.0 + 1_000_000)),
                Effect::Send { to, message } | Effect::Meanwhile { to, message } => out.send(to, message),
                Effect::SetTimer(timer, length) => out.set_timer(timer, length),
                Effect::CancelTimer(timer) => out.cancel_timer(timer),
                Effect::Emit(event) | Effect::EmitAtOnce(event) => out.emit(event),
                Effect::Persist(record) => match record {},
            }
        }
    }
}

impl<const BUG: u8> Observable for Broken<BUG> {
    fn looks(&self, number: impl Fn(SocketAddr) -> usize) -> Vec<Look> {
        self.machine.looks(number)
    }

    fn label(message: &Largest) -> Label {
        Gossip::label(message)
    }
}

impl<const BUG: u8> Numbered for Broken<BUG> {
    fn begin(others: Vec<SocketAddr>, seed: u64) -> Self {
        Self { machine: Gossip::new(others.clone(), seed), others }
    }

    fn number(&self) -> u64 {
        self.machine.largest()
    }
}

/// A checker that finds nothing proves nothing.
#[test]
fn each_bug_is_found_by_the_property_that_it_breaks() {
    fn found<const BUG: u8>() -> Violation {
        run::<Rumours<Broken<BUG>>>(0, &plan()).map(|_| ()).expect_err("a bug is found")
    }
    for (violation, property) in
        [(found::<FALLS>(), "order: "), (found::<INVENTS>(), "truth: "), (found::<SILENT>(), "liveness: ")]
    {
        assert!(violation.what.starts_with(property), "{violation} is no {property}");
    }
}
