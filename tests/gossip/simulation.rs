//! The machine in the simulated world: what is asked of it, what must always hold, and that its checker can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::AddAssign;
use std::process::Command;
use std::time::Duration;

use netbelt::protocol::Time;
use netbelt::sim::faults::{draw_within, pick};
use netbelt::sim::observe::{Label, Look, Observable, facts};
use netbelt::sim::scenario::{Draws, Plan, Scenario, Violation};
use netbelt::sim::sweep::sweep;
use netbelt::sim::trace::{Keep, Loss, Moment, What};
use netbelt::sim::world::{Occurrence, Spawn, World};
use netbelt::sim::{jsonl, run};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::Serialize;
use serde_json::json;

use super::machine::{FALLS, Gossip, INVENTS, Largest, NO_BUG, Node, Raise, SILENT};

impl<const BUG: u8> Observable for Node<BUG> {
    fn looks(&self, _: impl Fn(SocketAddr) -> usize) -> Vec<Look> {
        vec![Look::new("role", facts([("largest", json!(self.largest()))]))]
    }

    fn label(message: &Largest) -> Label {
        Label::new("largest", facts([("number", json!(message.0))]))
    }
}

/// Nodes that are told numbers now and then.
struct Rumours<const BUG: u8> {
    draws: Draws,
    peers: Vec<SocketAddr>,
    next_at: Option<Time>,
    /// Zero, and what anybody was ever told.
    raised: BTreeSet<u64>,
    /// What each node was last seen to know since its latest boot.
    seen: BTreeMap<SocketAddr, u64>,
    /// The largest that was known when the faults ended.
    held: u64,
    figures: Figures,
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

impl<const BUG: u8> fmt::Display for Rumours<BUG> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.draws.faults.fmt(f)
    }
}

impl<const BUG: u8> Scenario for Rumours<BUG> {
    type Machine = Node<BUG>;
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
        }
    }

    fn draws(&self) -> &Draws {
        &self.draws
    }

    fn peers(&self) -> Vec<SocketAddr> {
        self.peers.clone()
    }

    fn spawn(&self) -> Spawn<Node<BUG>> {
        let peers = self.peers.clone();
        Box::new(move |peer, seed, _| Node::new(peers.iter().copied().filter(|other| *other != peer), seed))
    }

    fn next_at(&self) -> Option<Time> {
        self.next_at
    }

    /// Tells somebody a number, mostly one larger than all before.
    fn act(&mut self, world: &mut World<Node<BUG>>) {
        let pause = draw_within(world.rng(), &(Duration::ZERO..=Duration::from_millis(400)));
        self.next_at = Some(world.now() + pause);
        let number = world.rng().next_u64() % (self.raised.last().expect("there is zero") + 20);
        let node = pick(world.rng(), &self.peers);
        self.raised.insert(number);
        self.figures.told += u64::from(world.request(node, Raise(number)));
    }

    fn on_occurrence(&mut self, world: &mut World<Node<BUG>>, occurrence: Occurrence<Node<BUG>>) -> Result<(), String> {
        match occurrence {
            Occurrence::Emitted { .. } => self.figures.learned += 1,
            Occurrence::Crashed { node } => _ = self.seen.remove(&node),
            Occurrence::Restarted { .. } | Occurrence::Durable { .. } => {}
        }
        for peer in &self.peers {
            let Some(number) = world.machine(*peer).map(Node::largest) else { continue };
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

    fn on_healed(&mut self, world: &mut World<Node<BUG>>) {
        self.next_at = None;
        self.held = world.machines().map(Node::largest).max().unwrap_or_default();
    }

    /// All are up by now. What was on its way may be larger than all that was known.
    fn has_recovered(&self, world: &World<Node<BUG>>) -> bool {
        let numbers: BTreeSet<_> = world.machines().map(Node::largest).collect();
        numbers.len() == 1 && numbers.first() >= Some(&self.held)
    }

    fn missing(&self, world: &World<Node<BUG>>) -> String {
        let numbers: Vec<_> = world.machines().map(Node::largest).collect();
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
    sweep::<Rumours<NO_BUG>>(0..SEEDS, threads, &plan(), true, |seed, result| {
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
    let hash = |seed| run::<Rumours<NO_BUG>>(seed, &plan()).unwrap_or_else(|e| panic!("seed {seed}: {e}")).trace_hash;
    for seed in 0..20 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
        assert_ne!(hash(seed), hash(seed + 1), "seed {seed}");
    }
}

/// The picture of a trace.
fn picture(nodes: usize, trace: &[Moment]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gossip.jsonl");
    jsonl::write(&mut std::fs::File::create(&path).unwrap(), nodes, false, trace).unwrap();
    let drawn =
        Command::new(env!("CARGO_BIN_EXE_netsim")).arg("draw").arg(&path).args(["--from", "0s"]).output().unwrap();
    let svg = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.status.success() && svg.ends_with("</svg>\n"), "{}", String::from_utf8_lossy(&drawn.stderr));
    svg
}

#[test]
fn a_run_is_drawn_by_the_words_of_its_trace() {
    let plan = Plan { faults_for: Duration::from_secs(2), nodes: 3, keep: Keep::Moments, ..plan() };
    let report = run::<Rumours<NO_BUG>>(7, &plan).unwrap_or_else(|violation| panic!("{violation}"));
    let svg = picture(plan.nodes, &report.trace);
    for part in ["largest from n1 to n2: number ", "n3: largest ", ">largest<tspan", "all faults end"] {
        assert!(svg.contains(part), "no {part} in:\n{svg}");
    }
    for part in ["term", "leader", "vote", "forward"] {
        assert!(!svg.contains(&format!(">{part}")) && !svg.contains(&format!(", {part}")), "a {part} in:\n{svg}");
    }
}

/// Addresses are told, and not all of them are true.
#[test]
fn a_message_to_an_address_where_no_node_is_is_lost() {
    let [one, nobody, later] = [1, 2, 3].map(|number| SocketAddr::from(([10, 0, 0, number], 1)));
    let spawn = Box::new(move |_, seed, _| Gossip::new([nobody, later], seed));
    let mut world = World::new(1, vec![one], spawn, Keep::Moments);
    while world.advance(Time::ZERO + Duration::from_secs(1)) {}
    world.add(later);
    while world.advance(Time::ZERO + Duration::from_secs(2)) {}
    let trace = world.take_moments();
    let started = trace.iter().filter_map(|moment| match moment.what {
        What::Started { node, .. } => Some(node),
        _ => None,
    });
    let [own, later] = started.collect::<Vec<_>>()[..] else { panic!("{trace:?}") };
    let nobody = 5 - later; // who was seen first has the smaller number
    let count = |which: &dyn Fn(&What) -> bool| trace.iter().filter(|moment| which(&moment.what)).count();
    let lost = |node| count(&|what| matches!(what, What::Lost(f, Loss::Down) if (f.from, f.to) == (own, node)));
    let told = |node| count(&|what| matches!(what, What::Delivered(f) if f.to == node));
    assert!(lost(nobody) > 3 && told(nobody) == 0 && lost(later) > 0 && told(later) > 0, "{trace:?}");
    let svg = picture(1, &trace);
    assert!(svg.contains(&format!("largest from n{own} to n{nobody}: number 0: the receiver is down")), "{svg}");
}

/// A checker that finds nothing proves nothing.
#[test]
fn each_bug_is_found_by_the_property_that_it_breaks() {
    fn found<const BUG: u8>() -> Violation {
        run::<Rumours<BUG>>(0, &plan()).map(|_| ()).expect_err("a bug is found")
    }
    for (violation, property) in
        [(found::<FALLS>(), "order: "), (found::<INVENTS>(), "truth: "), (found::<SILENT>(), "liveness: ")]
    {
        assert!(violation.what.starts_with(property), "{violation} is no {property}");
    }
}
