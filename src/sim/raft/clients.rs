//! Clients of a simulated cluster, and all that they saw.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::rand_core::Rng;

use super::kv_model::{KvOperation, Told, Write, check};
use crate::kv::command::{Outcome, SessionId, SessionRequest};
use crate::kv::raft_kv::{self, Answer, Ask, Query, RaftKv, RequestError, RequestId};
use crate::node_id::NodeId;
use crate::protocol::Time;
use crate::sim::faults::{draw_within, pick};
use crate::sim::history::Span;
use crate::sim::world::World;

/// The longest that a client without a session waits.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a client with a session waits before it asks another node: shorter than many elections.
const SESSION_TIMEOUT: Duration = Duration::from_millis(400);
const KEYS: u64 = 3;

/// All clients.
pub(super) struct Clients {
    clients: Vec<Client>,
    /// Each client's request in hand.
    asked: BTreeMap<RequestId, Asked>,
    history: BTreeMap<Bytes, Vec<Span<KvOperation>>>,
    /// What was last read of a key, for compare-and-set.
    last_read: BTreeMap<Bytes, Option<Bytes>>,
    retried: usize,
}

/// A client asks, waits for the answer, rests a little, and asks again.
struct Client {
    next_at: Time,
    busy: Option<RequestId>,
    /// What it will ask again, of any node: the outcome is unknown, and it has a session.
    again: Option<Asked>,
    /// The names it has had: the last of them is that of its session.
    names: Vec<String>,
}

impl Client {
    fn new(number: usize) -> Self {
        Self { next_at: Time::ZERO, busy: None, again: None, names: vec![format!("c{number}")] }
    }
}

struct Asked {
    client: usize,
    node: NodeId,
    key: Bytes,
    called: u64,
    session: Option<SessionId>,
    /// How often it was asked before.
    tries: u64,
    operation: KvOperation,
}

impl Clients {
    pub(super) fn new(count: usize) -> Self {
        Self {
            clients: (0..count).map(Client::new).collect(),
            asked: BTreeMap::new(),
            history: BTreeMap::new(),
            last_read: BTreeMap::new(),
            retried: 0,
        }
    }

    /// When one of them asks next.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.clients.iter().filter(|client| client.busy.is_none()).map(|client| client.next_at).min()
    }

    /// How many requests were answered with a result, and of how many the outcome stayed open.
    pub(super) fn answered_and_open(&self) -> (usize, usize) {
        let (all, open) = self
            .history
            .values()
            .flatten()
            .fold((0, 0), |(all, open), span| (all + 1, open + usize::from(span.returned.is_none())));
        (all - open, open)
    }

    /// How many writes were answered after they had been sent again.
    pub(super) const fn retried(&self) -> usize {
        self.retried
    }

    /// Whether there is an order that explains all that they saw.
    pub(super) fn check_history(&self) -> Result<(), String> {
        self.history.iter().try_for_each(|(key, spans)| check(key, spans))
    }

    /// What a node was asked that crashed is never answered.
    pub(super) fn on_crash(&mut self, world: &World<RaftKv>, node: NodeId) {
        let lost: Vec<_> = self.asked.iter().filter(|(_, a)| a.node == node).map(|(id, _)| *id).collect();
        for id in lost {
            self.outcome_unknown(world, id);
        }
    }

    /// All that are free ask.
    pub(super) fn ask(&mut self, world: &mut World<RaftKv>, next_request: &mut u64) {
        let now = world.now();
        for client in 0..self.clients.len() {
            if self.clients[client].busy.is_some() || self.clients[client].next_at > now {
                continue;
            }
            self.clients[client].next_at = now + Duration::from_micros(world.rng().next_u64() % 100_000);
            let peers = world.peers().to_vec();
            let rng = world.rng();
            let node = pick(rng, &peers);
            if let Some(asked) = self.clients[client].again.take() {
                self.ask_one(world, next_request, Asked { node, tries: asked.tries + 1, ..asked });
                continue;
            }
            let key = Bytes::from(format!("k{}", rng.next_u64() % KEYS));
            let value = Bytes::from(format!("v{}", *next_request)); // unique
            let has_session = rng.next_u64().is_multiple_of(2);
            let (set, write) = (Some(value), |value, expected| KvOperation::Write(Write { value, expected }, None));
            let operation = match rng.next_u64() % 10 {
                0..4 => write(set, None),
                4 => write(None, None),
                5 => write(set, Some(None)),
                6 => write(set, Some(self.last_read.get(&key).cloned().unwrap_or_default())),
                _ => KvOperation::Get(None),
            };
            let session = (has_session && matches!(operation, KvOperation::Write(..)))
                .then(|| SessionId { client: self.name_of(client), sequence: *next_request });
            let called = now.since_epoch().as_micros() as u64;
            self.ask_one(world, next_request, Asked { client, node, key, called, session, tries: 0, operation });
        }
    }

    fn name_of(&self, client: usize) -> Bytes {
        self.clients[client].names.last().expect("it has one").clone().into()
    }

    /// The cluster has forgotten the name of a client, which takes another one: every other says since when.
    fn rename(&mut self, world: &World<RaftKv>, client: usize) {
        let number = self.clients[client].names.len();
        let version = world.machines().map(|machine| machine.store().version()).next().unwrap_or_default();
        let since = if number.is_multiple_of(2) { String::new() } else { format!(";since={version}") };
        self.clients[client].names.push(format!("c{client}-{number}{since}"));
    }

    fn ask_one(&mut self, world: &mut World<RaftKv>, next_request: &mut u64, asked: Asked) {
        let id = RequestId(*next_request);
        *next_request += 1;
        let ask = match &asked.operation {
            KvOperation::Write(write, _) => {
                let operation = write.operation(asked.key.clone());
                Ask::Write(SessionRequest { session: asked.session.clone(), operation }.encode())
            }
            KvOperation::Get(_) => Ask::Read(Query::Get { key: asked.key.clone() }),
        };
        let timeout = match asked.session {
            Some(_) => draw_within(world.rng(), &(Duration::from_millis(1)..=SESSION_TIMEOUT)),
            None => CLIENT_TIMEOUT,
        };
        let taken = world.request(asked.node, raft_kv::Command { id, ask, timeout });
        let client = &mut self.clients[asked.client];
        if taken {
            client.busy = Some(id);
            self.asked.insert(id, asked);
        } else if asked.tries > 0 {
            client.again = Some(asked); // the node is down
        }
    }

    /// A client with a session asks another node; one without can only give up.
    fn outcome_unknown(&mut self, world: &World<RaftKv>, id: RequestId) {
        match self.asked.get(&id) {
            Some(asked) if asked.session.is_some() => {
                let asked = self.asked.remove(&id).expect("it was there");
                let client = &mut self.clients[asked.client];
                (client.busy, client.again) = (None, Some(asked));
            }
            Some(_) | None => self.finish(world, id, None),
        }
    }

    pub(super) fn on_answer(
        &mut self,
        world: &World<RaftKv>,
        id: RequestId,
        answer: Result<Answer, RequestError>,
    ) -> Result<(), String> {
        let Some(asked) = self.asked.get(&id) else { return Ok(()) };
        let result = match (&asked.operation, answer) {
            (KvOperation::Write(..), Ok(Answer::Written(outcome @ (Outcome::Forgotten | Outcome::NameTaken)))) => {
                return Err(format!("exactly-once: {id:?} was answered {outcome:?}"));
            }
            (KvOperation::Write(..), Ok(Answer::Written(Outcome::NameForgotten))) => {
                let (client, is_sure) = (asked.client, asked.tries == 0);
                self.rename(world, client);
                if is_sure {
                    self.asked.remove(&id); // its number is fresh: it was not done, and leaves no mark on the history
                    self.clients[client].busy = None;
                } else {
                    self.finish(world, id, None);
                }
                return Ok(());
            }
            (KvOperation::Write(write, _), Ok(Answer::Written(ref outcome))) if let Some(told) = Told::new(outcome) => {
                Some(KvOperation::Write(write.clone(), Some(told)))
            }
            (KvOperation::Get(_), Ok(Answer::Value(value))) => Some(KvOperation::Get(Some(value.map(|v| v.value)))),
            (KvOperation::Write(..), Err(RequestError::OutcomeUnknown)) => {
                self.outcome_unknown(world, id);
                return Ok(());
            }
            (KvOperation::Write(..), Err(RequestError::NoLeader | RequestError::Overloaded)) if asked.tries > 0 => {
                self.outcome_unknown(world, id); // nothing was done this time
                return Ok(());
            }
            // Certainly not done: it leaves no mark on the history.
            (_, Err(RequestError::NoLeader | RequestError::TooLate | RequestError::Overloaded)) => {
                let asked = self.asked.remove(&id).expect("it was there");
                self.clients[asked.client].busy = None;
                return Ok(());
            }
            (operation, answer) => return Err(format!("{id:?} asked {operation:?} and was answered {answer:?}")),
        };
        self.finish(world, id, result);
        Ok(())
    }

    /// Puts a request into the history, with what the client saw of it.
    fn finish(&mut self, world: &World<RaftKv>, id: RequestId, seen: Option<KvOperation>) {
        let Some(asked) = self.asked.remove(&id) else { return };
        self.clients[asked.client].busy = None;
        self.retried += usize::from(asked.tries > 0 && seen.is_some());
        self.record(world, asked, seen);
    }

    fn record(&mut self, world: &World<RaftKv>, asked: Asked, seen: Option<KvOperation>) {
        if let Some(KvOperation::Get(Some(value))) = &seen {
            self.last_read.insert(asked.key.clone(), value.clone());
        }
        let returned = seen.is_some().then(|| world.now().since_epoch().as_micros() as u64);
        let operation = seen.unwrap_or(asked.operation);
        if matches!(operation, KvOperation::Get(None)) {
            return; // a read without an answer says nothing
        }
        self.history.entry(asked.key).or_default().push(Span { called: asked.called, returned, operation });
    }

    /// Clients stop asking; what they wait for stays open.
    pub(super) fn abandon(&mut self, world: &World<RaftKv>) {
        for id in self.asked.keys().copied().collect::<Vec<_>>() {
            self.finish(world, id, None);
        }
        for asked in std::mem::take(&mut self.clients).into_iter().filter_map(|client| client.again) {
            self.record(world, asked, None);
        }
    }
}
