//! The replicated state: the store, the sessions, the cluster's id. Same requests in the same order, same answers and
//! same state, on every node.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::changes::Change;
use super::command::{Operation, Outcome, SessionRequest};
use super::sessions::{Known, Sessions};
use super::snapshot::{CLIENT_BYTES, HEADER_BYTES, ITEM_BYTES};
use super::store::Store;
use super::view::{View, ViewId};

/// What all nodes agree on, and the views that are open on this one.
#[derive(Clone, Debug, Default)]
pub struct State {
    store: Store,
    sessions: Sessions,
    cluster: Option<u64>,
    views: BTreeMap<ViewId, View>,
    next_view: u64,
}

impl State {
    /// A state that was put together from a snapshot.
    pub(super) const fn restore(store: Store, sessions: Sessions, cluster: Option<u64>) -> Self {
        Self { store, sessions, cluster, views: BTreeMap::new(), next_view: 0 }
    }

    /// Carries out a request, unless that has been done before. Also tells the change of the store, if there is one.
    pub fn apply(&mut self, request: SessionRequest) -> (Outcome, Option<Change>) {
        let SessionRequest { session, operation } = request;
        let session = session.filter(|_| !cfg!(mutant = "retry_applied_twice"));
        let Some(id) = session else { return self.carry_out(operation) };
        let checksum = operation.checksum();
        match self.sessions.look_up(&id, checksum, self.store.version()) {
            Known::New => {
                let (outcome, change) = self.carry_out(operation);
                self.sessions.remember(&id, checksum, &outcome, self.store.version());
                (outcome, change)
            }
            Known::Answered(outcome) if operation.can_have(&outcome) => (outcome, None),
            Known::Answered(_) => (Outcome::NameTaken, None), // another request, whose checksum is the same
            Known::Failed => (self.fail_again(&operation), None),
            Known::Forgotten => (Outcome::Forgotten, None),
            Known::NameForgotten => (Outcome::NameForgotten, None),
            Known::Taken => (Outcome::NameTaken, None),
        }
    }

    fn carry_out(&mut self, operation: Operation) -> (Outcome, Option<Change>) {
        if let Some(key) = operation.key() {
            self.views.values_mut().for_each(|view| view.keep(key, &self.store));
        }
        match operation {
            Operation::Set { key, value, condition } => self.store.set(&key, &value, condition.as_ref()),
            Operation::Delete { key, condition } => self.store.delete(&key, condition.as_ref()),
            Operation::InitCluster { cluster, keep_forgotten } => {
                match self.cluster {
                    _ if keep_forgotten => self.sessions.keep_forgotten(),
                    None => self.sessions.forget_names(), // it is one of older nodes
                    Some(_) => {}
                }
                let cluster = *self.cluster.get_or_insert(cluster);
                (Outcome::ClusterInitialized { cluster }, None)
            }
        }
    }

    /// The answer to a command whose condition did not hold when it first came. If it does not hold now either, this
    /// moment explains the answer as well as that one, and what the key holds can be told.
    fn fail_again(&self, operation: &Operation) -> Outcome {
        let (Operation::Set { key, condition, .. } | Operation::Delete { key, condition }) = operation else {
            return Outcome::FailedEarlier;
        };
        self.store.check(key, condition.as_ref()).unwrap_or(Outcome::FailedEarlier)
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The sessions.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The cluster's id, once it has one.
    pub const fn cluster(&self) -> Option<u64> {
        self.cluster
    }

    /// How many bytes a snapshot of it takes at most.
    pub fn snapshot_bytes(&self) -> u64 {
        let names = self.sessions.forgotten_names() * size_of::<u64>();
        let items = self.store.bytes() + self.store.len() * ITEM_BYTES;
        (items + self.sessions.len() * CLIENT_BYTES + names + HEADER_BYTES) as u64
    }

    /// The same in another cluster.
    #[must_use]
    pub fn moved_to(self, cluster: u64) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// Opens a view of the state as it is now. It costs memory until it is closed.
    pub fn open_view(&mut self) -> ViewId {
        let id = ViewId(self.next_view);
        self.next_view += 1;
        self.views.insert(id, View::open(&self.store, &self.sessions, self.cluster));
        id
    }

    /// The next chunk of a view, of about [`CHUNK_BYTES`](crate::defaults::CHUNK_BYTES); None at its end, or when it is
    /// not open.
    pub fn next_chunk(&mut self, id: ViewId) -> Option<Bytes> {
        self.views.get_mut(&id)?.next_chunk(&self.store)
    }

    /// From now on no more clients than so many are remembered.
    pub(super) const fn limit_clients(&mut self, most: usize) {
        self.sessions.limit(most);
    }

    /// Becomes `restored`. Views of what it was are closed, and their names not used again.
    pub fn replace(&mut self, mut restored: Self) {
        restored.limit_clients(self.sessions.most());
        *self = Self { next_view: self.next_view, views: BTreeMap::new(), ..restored };
    }

    /// Closes a view; one that is not open stays so.
    pub fn close_view(&mut self, id: ViewId) {
        self.views.remove(&id);
    }

    /// How many views are open.
    pub fn open_views(&self) -> usize {
        self.views.len()
    }
}

/// Views are this node's own affair.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.store == other.store && self.sessions == other.sessions && self.cluster == other.cluster
    }
}

impl Eq for State {}
