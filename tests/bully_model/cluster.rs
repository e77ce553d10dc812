//! A few nodes as a `stateright` model: everything that may happen next, in every state.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use netbelt::bully::{Body, Command, Config, Id, Message, Rule, Term, Timer, invariants};
use netbelt::protocol::Input;
use stateright::{Model, Property};

use crate::node::{Node, Output, is_greeting};

/// What is explored: nodes 1, 2, .. and the bounds of their states.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) name: &'static str,
    pub(crate) nodes: u64,
    pub(crate) quorum: bool,
    pub(crate) sticky: bool,
    pub(crate) rule: Rule,
    /// What the first says never reaches the second.
    pub(crate) cuts: &'static [(u64, u64)],
    /// Every message arrives, once, and nobody takes another node for silent while one is on its way. Otherwise what was said
    /// once may arrive at any later time, any number of times, or never.
    pub(crate) prompt: bool,
    /// Greetings of those who do not lead are heard.
    pub(crate) greetings: bool,
    /// No term beyond this one.
    pub(crate) terms: u64,
    pub(crate) budget: Budget,
}

/// What would go on for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) heartbeats: u8,
    /// Times that somebody waits in vain.
    pub(crate) silences: u8,
    pub(crate) resigns: u8,
    /// Hours by which the clock of a node jumps.
    pub(crate) hours: u8,
}

/// A state of the whole cluster.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct State {
    nodes: Vec<Node>,
    /// What may arrive, once each, sorted.
    network: Vec<Envelope>,
    left: Budget,
    /// Who has said that it leads, and which term.
    led: Vec<(Term, Id)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Envelope {
    from: Id,
    to: Id,
    message: Message,
}

/// What may happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Elapse(Id, Timer),
    Jump(Id),
    Sync(Id),
    Crash(Id),
    Resign(Id),
    Deliver(Envelope),
}

impl Scope {
    /// So many nodes with a quorum, one term, and nothing that would go on for ever.
    pub(crate) fn of(nodes: u64) -> Self {
        Self {
            name: "",
            nodes,
            quorum: true,
            sticky: false,
            rule: Rule::Highest,
            cuts: &[],
            prompt: false,
            greetings: false,
            terms: 1,
            budget: Budget { silences: 3, ..Budget::default() },
        }
    }

    fn node(&self, id: u64) -> Node {
        let others = (1..=self.nodes).filter(|other| *other != id).map(Id);
        let config =
            Config { quorum: self.quorum, sticky: self.sticky, rule: self.rule, ..Config::new(Id(id), others) };
        Node::new(config)
    }

    /// Carries out what leaves a node.
    fn carry_out(&self, state: &mut State, from: Id, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(to, message) => {
                    let envelope = Envelope { from, to, message };
                    let is_lost = self.cuts.contains(&(from.0, to.0)) || (is_greeting(&message) && !self.greetings);
                    if !is_lost && !state.network.contains(&envelope) {
                        state.network.push(envelope);
                        state.network.sort_by_cached_key(fingerprint);
                    }
                }
                Output::Leads(term) => {
                    if !state.led.contains(&(term, from)) {
                        state.led.push((term, from));
                        state.led.sort_unstable();
                    }
                }
            }
        }
    }
}

impl Model for Scope {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nodes = (1..=self.nodes).map(|id| self.node(id)).collect();
        vec![State { nodes, network: Vec::new(), left: self.budget, led: Vec::new() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Budget { crashes, heartbeats, silences, resigns, hours } = state.left;
        let is_quiet = state.network.is_empty() || !self.prompt;
        for (node, id) in state.nodes.iter().zip((1..).map(Id)) {
            let may_elapse = silences > 0 && node.timers.contains(&Timer::Silence) && is_quiet;
            actions.extend(may_elapse.then_some(Action::Elapse(id, Timer::Silence)));
            actions.extend((heartbeats > 0).then_some(Action::Elapse(id, Timer::Heartbeat)));
            actions.extend((hours > 0 && is_quiet).then_some(Action::Jump(id)));
            actions.extend(node.is_writing().then_some(Action::Sync(id)));
            actions.extend((crashes > 0).then_some(Action::Crash(id)));
            actions.extend((resigns > 0 && node.leads()).then_some(Action::Resign(id)));
        }
        actions.extend(state.network.iter().copied().map(Action::Deliver));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let mut outputs = Vec::new();
        let id = match &action {
            Action::Elapse(id, _) | Action::Jump(id) | Action::Sync(id) | Action::Crash(id) | Action::Resign(id) => *id,
            Action::Deliver(envelope) => envelope.to,
        };
        let node = &mut next.nodes[id.0 as usize - 1];
        match &action {
            Action::Elapse(_, timer) => {
                match timer {
                    Timer::Heartbeat => next.left.heartbeats -= 1,
                    Timer::Silence => next.left.silences -= 1,
                }
                node.elapse(*timer, &mut outputs);
            }
            Action::Jump(_) => {
                next.left.hours -= 1;
                node.jump();
            }
            Action::Sync(_) => node.sync(&mut outputs),
            Action::Crash(_) => {
                next.left.crashes -= 1;
                node.crash(&mut outputs);
            }
            Action::Resign(_) => {
                next.left.resigns -= 1;
                node.step(Input::Requested(Command::Resign), &mut outputs);
            }
            Action::Deliver(envelope) => {
                let Envelope { from, message, .. } = *envelope;
                node.step(Input::Received { from, message }, &mut outputs);
                next.network.retain(|other| !self.prompt || other != envelope);
            }
        }
        self.carry_out(&mut next, id, outputs);
        (next != *state).then_some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        // Who promises a term once has no more to write than there are terms; a broken one might go on for ever.
        state.nodes.iter().all(|node| node.machine.term().0 <= self.terms && node.unwritten() as u64 <= self.terms)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties: Vec<Property<Self>> = vec![
            Property::always("a term never has two leaders", |_, state: &State| {
                state.led.windows(2).all(|pair| pair[0].0 != pair[1].0)
                    && invariants::one_leader_a_term(state.nodes.iter().map(|node| &node.machine)).is_ok()
            }),
            Property::always("a promise on its way is durable", |_, state: &State| {
                state.network.iter().all(|Envelope { from, message, .. }| {
                    let durable = state.nodes[from.0 as usize - 1].disk.map_or(Term(0), |promise| promise.term);
                    !matches!(message.body, Body::Promise { .. } | Body::Following { .. }) || durable >= message.term
                })
            }),
            Property::sometimes("somebody leads", |_, state: &State| !state.led.is_empty()),
        ];
        if self.terms > 1 && self.quorum {
            properties.push(Property::sometimes("two terms have had a leader", |_, state: &State| state.led.len() > 1));
        }
        if self.budget.crashes > 0 {
            properties.push(Property::sometimes("a leader after a crash", |scope: &Self, state: &State| {
                state.left.crashes < scope.budget.crashes && state.nodes.iter().any(Node::leads)
            }));
        }
        if self.budget.resigns > 0 {
            properties.push(Property::sometimes("a leader has resigned", |_, state: &State| state.left.resigns == 0));
        }
        properties
    }
}

fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(Envelope { from, to, message: Message { term, body } }) => {
                write!(f, "{to}: hears {from} say {body:?} in term {}", term.0)
            }
            Self::Elapse(id, timer) => write!(f, "{id}: {timer:?} runs out"),
            Self::Jump(id) => write!(f, "{id}: an hour passes"),
            Self::Sync(id) => write!(f, "{id}: its promise is durable"),
            Self::Crash(id) => write!(f, "{id}: crashes and starts again"),
            Self::Resign(id) => write!(f, "{id}: resigns"),
        }
    }
}
