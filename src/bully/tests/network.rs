//! A tiny network for tests: nodes with slow disks, wrong clocks and commands that take their grace, in ticks of a
//! millisecond.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::{Bully, Command, Config, Event, Id, Message, Promise, RoleName, Term};
use crate::host::{Host, Output};
use crate::protocol::{Input, Time};

/// Nodes 1, 2, .. and everything between them.
pub(crate) struct Network {
    pub(crate) nodes: BTreeMap<Id, Node>,
    pub(crate) tick: u64,
    /// Pairs that do not hear each other: who speaks, and to whom.
    pub(crate) cuts: BTreeSet<(Id, Id)>,
    /// Of a hundred messages so many are lost.
    pub(crate) loss: u64,
    /// A message takes so many ticks at the most.
    pub(crate) delay: u64,
    /// A disk takes so many ticks at the most.
    pub(crate) disk: u64,
    /// What was told, in order.
    pub(crate) told: Vec<(Id, Event)>,
    flying: Vec<(u64, Id, Id, Message)>,
    rng: ChaCha8Rng,
    newest_token: Term,
    /// Whether two commands ran at once, or one with a token that was not new.
    pub(crate) broken: Option<String>,
}

pub(crate) struct Node {
    config: Config,
    host: Option<Host<Bully>>,
    /// Its clock runs at so many thousandths of the right speed.
    rate: u64,
    disk: Vec<Promise>,
    writing: Option<(u64, Vec<Promise>)>,
    inbox: Vec<(Id, Message)>,
    pub(crate) paused_until: u64,
    command: Option<Running>,
    /// Leads, and its command waits for the end of the one before.
    wants: Option<Term>,
    /// When the guard ends the command unless the node renews it.
    guard: Option<u64>,
}

struct Running {
    token: Term,
    ends: Option<u64>,
}

impl Network {
    pub(crate) fn new(count: u64, seed: u64, configure: impl Fn(&mut Config)) -> Self {
        let ids: BTreeSet<Id> = (1..=count).map(Id).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut node = |id: Id| {
            let mut config = Config::new(id, ids.iter().copied().filter(|peer| *peer != id));
            configure(&mut config);
            let rate = 970 + rng.next_u64() % 61;
            let node = Node {
                config,
                host: None,
                rate,
                disk: Vec::new(),
                writing: None,
                inbox: Vec::new(),
                paused_until: 0,
                command: None,
                wants: None,
                guard: None,
            };
            (id, node)
        };
        let nodes = ids.iter().map(|id| node(*id)).collect();
        Self {
            nodes,
            tick: 0,
            cuts: BTreeSet::new(),
            loss: 0,
            delay: 5,
            disk: 5,
            told: Vec::new(),
            flying: Vec::new(),
            rng,
            newest_token: Term(0),
            broken: None,
        }
    }

    /// All nodes started.
    pub(crate) fn started(count: u64, seed: u64, configure: impl Fn(&mut Config)) -> Self {
        let mut network = Self::new(count, seed, configure);
        (1..=count).for_each(|id| network.start(id));
        network
    }

    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    fn now(&self, id: Id) -> Time {
        Time::after_epoch(Duration::from_micros(self.tick * self.nodes[&id].rate))
    }

    pub(crate) fn machine(&self, id: u64) -> Option<&Bully> {
        self.nodes[&Id(id)].host.as_ref().map(Host::machine)
    }

    /// Everybody who believes to lead.
    pub(crate) fn leaders(&self) -> Vec<u64> {
        let leads = |node: &Node| node.host.as_ref().is_some_and(|host| host.machine().role() == RoleName::Leader);
        self.nodes.iter().filter(|(_, node)| leads(node)).map(|(id, _)| id.0).collect()
    }

    /// Whom each living node takes for the leader.
    pub(crate) fn followed(&self) -> BTreeSet<Option<u64>> {
        let hosts = self.nodes.values().filter_map(|node| node.host.as_ref());
        hosts.map(|host| host.machine().leader().map(|id| id.0)).collect()
    }

    pub(crate) fn start(&mut self, id: u64) {
        let id = Id(id);
        let seed = self.rng.next_u64();
        let node = self.nodes.get_mut(&id).unwrap();
        let machine = Bully::recover(node.config.clone(), node.disk.iter().copied()).unwrap();
        node.host = Some(Host::new(machine, seed));
        node.inbox.clear();
        self.step(id, Input::Started);
    }

    /// It loses what is not durable; its guard ends the command.
    pub(crate) fn crash(&mut self, id: u64) {
        let id = Id(id);
        let node = self.nodes.get_mut(&id).unwrap();
        (node.host, node.writing, node.wants) = (None, None, None);
        self.end_command(id);
    }

    pub(crate) fn ask(&mut self, id: u64, command: Command) {
        self.step(Id(id), Input::Requested(command));
    }

    /// Neither hears the other.
    pub(crate) fn cut(&mut self, a: u64, b: u64) {
        self.cuts.extend([(Id(a), Id(b)), (Id(b), Id(a))]);
    }

    pub(crate) fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.tick += 1;
        let tick = self.tick;
        let arrived: Vec<_> = self.flying.extract_if(.., |(due, ..)| *due <= tick).collect();
        for (_, from, to, message) in arrived {
            self.nodes.get_mut(&to).unwrap().inbox.push((from, message));
        }
        let ids: Vec<Id> = self.nodes.keys().copied().collect();
        for id in ids {
            self.tick_command(id);
            if self.nodes[&id].paused_until > tick || self.nodes[&id].host.is_none() {
                continue;
            }
            let now = self.now(id);
            let node = self.nodes.get_mut(&id).unwrap();
            let inbox = std::mem::take(&mut node.inbox);
            let host = node.host.as_mut().unwrap();
            if let Some((_, records)) = node.writing.take_if(|(due, _)| *due <= tick) {
                node.disk.extend(records);
                host.batch_durable(now);
            }
            for (from, message) in inbox {
                host.step(now, Input::Received { from, message });
            }
            host.fire_due(now);
            self.carry_out(id);
        }
        let running: Vec<_> = self.nodes.iter().filter(|(_, node)| node.command.is_some()).map(|(id, _)| id).collect();
        if running.len() > 1 {
            self.broken.get_or_insert(format!("commands run on {running:?} at tick {tick}"));
        }
    }

    fn step(&mut self, id: Id, input: Input<Bully>) {
        let now = self.now(id);
        if let Some(host) = &mut self.nodes.get_mut(&id).unwrap().host {
            host.step(now, input);
            self.carry_out(id);
        }
    }

    fn carry_out(&mut self, id: Id) {
        let now = self.now(id);
        while let Some(output) = self.nodes.get_mut(&id).unwrap().host.as_mut().unwrap().next_output() {
            match output {
                Output::Send { to, message } => {
                    if !self.cuts.contains(&(id, to)) && self.draw(100) >= self.loss {
                        let due = self.tick + 1 + self.draw(self.delay);
                        self.flying.push((due, id, to, message));
                    }
                }
                Output::Emit(event) => {
                    self.told.push((id, event));
                    match event {
                        Event::Leader { leader, term, .. } if leader == id => {
                            self.nodes.get_mut(&id).unwrap().wants = Some(term);
                        }
                        Event::StepDown { .. } => {
                            self.nodes.get_mut(&id).unwrap().wants = None;
                            self.end_command(id);
                        }
                        Event::Leader { .. }
                        | Event::Election { .. }
                        | Event::PeerDown { .. }
                        | Event::PeerUp { .. } => {}
                    }
                }
            }
        }
        let due = self.tick + 1 + self.draw(self.disk);
        let node = self.nodes.get_mut(&id).unwrap();
        let host = node.host.as_mut().unwrap();
        if let Some(records) = host.take_batch(now) {
            node.writing = Some((due, records));
        }
        let ends = host.machine().leads_until().map(|end| end.since_epoch().as_micros() as u64 / node.rate);
        node.guard = ends.or(node.guard);
        if let Some(token) = node.wants.filter(|_| node.command.is_none()) {
            (node.wants, node.guard) = (None, ends);
            node.command = Some(Running { token, ends: None });
            if token <= self.newest_token {
                self.broken.get_or_insert(format!("{id} began with token {token:?} after {:?}", self.newest_token));
            }
            self.newest_token = token;
        }
    }

    fn end_command(&mut self, id: Id) {
        let ends = self.tick + self.rng.next_u64() % (self.nodes[&id].config.grace.as_millis() as u64 + 1);
        if let Some(command) = &mut self.nodes.get_mut(&id).unwrap().command {
            command.ends.get_or_insert(ends);
        }
    }

    fn tick_command(&mut self, id: Id) {
        let (tick, node) = (self.tick, self.nodes.get_mut(&id).unwrap());
        if node.guard.is_some_and(|guard| guard <= tick) {
            self.end_command(id);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        if node.command.as_ref().is_some_and(|command| command.ends.is_some_and(|ends| ends <= tick)) {
            node.command = None;
            if node.paused_until <= tick {
                self.step(id, Input::Requested(Command::Ended));
            }
        }
    }

    /// The token that each running command has.
    pub(crate) fn commands(&self) -> Vec<(u64, u64)> {
        let token = |node: &Node| node.command.as_ref().map(|command| command.token.0);
        self.nodes.iter().filter_map(|(id, node)| Some((id.0, token(node)?))).collect()
    }
}
