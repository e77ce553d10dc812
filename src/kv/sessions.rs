//! Exactly-once (thesis §6.3): what became of the requests that clients named, so that one that is sent again is
//! answered and not carried out again. It is part of the replicated state, and so survives a failover and a snapshot.
//!
//! Its size is bounded: [`SESSION_WINDOW`] outcomes a client, [`MAX_CLIENTS`] clients. Who leaves is decided by the
//! order of entries alone, so that all nodes agree. A client that has been [forgotten](super::forgotten), and sends a
//! request again, is refused.
//!
//! An older netbelt has it carried out again. Nodes of both kinds must not apply the same entries, so in a cluster that an
//! older one has initialised, forgotten names are kept from a point of the log on: a
//! [`Operation::InitCluster`](super::command::Operation::InitCluster) that says so, which older ones do not get past. (Before it is initialised,
//! a cluster takes less than [`MAX_CLIENTS`] writes, and forgets nobody.)

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{Outcome, SessionId};
use super::forgotten::Forgotten;
use crate::defaults::{MAX_CLIENTS, SESSION_WINDOW};

/// The clients that are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// How many at most: [`MAX_CLIENTS`], but in a simulation.
    most: usize,
    clients: BTreeMap<Bytes, Client>,
    /// The same clients, the one that has not been heard for longest first.
    by_age: BTreeMap<u64, Bytes>,
    /// How many named requests there have been.
    clock: u64,
    /// The names of those that are remembered no more, if they are kept.
    forgotten: Option<Forgotten>,
}

/// What is remembered of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// The clock when it was last heard.
    pub(super) heard: u64,
    /// Nothing is known of this sequence and those below.
    pub(super) forgotten: Option<u64>,
    /// The latest requests, by sequence.
    pub(super) outcomes: Vec<Answered>,
}

/// A request that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) sequence: u64,
    /// Of the command, so that a name that is used for another one is noticed.
    pub(super) checksum: u32,
    pub(super) outcome: Remembered,
}

/// An outcome, without what may be large. That a condition failed must be remembered, too: a copy of the request may
/// arrive after the client has been told so, when the condition would hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    Set { version: u64 },
    Deleted { existed: bool },
    ConditionFailed,
}

/// What is known of a request before it is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is to be carried out.
    New,
    /// It has had this outcome.
    Answered(Outcome),
    /// Its condition did not hold. It must not be carried out; if the condition does not hold now either, that may be told.
    Failed,
    /// Whatever was known of it has been forgotten.
    Forgotten,
    /// Its client may have been forgotten.
    NameForgotten,
    /// It was the name of another command.
    Taken,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            most: MAX_CLIENTS,
            clients: BTreeMap::new(),
            by_age: BTreeMap::new(),
            clock: 0,
            forgotten: Some(Forgotten::default()),
        }
    }
}

impl Sessions {
    /// From now on no more clients than so many are remembered. All nodes must say the same.
    pub(super) const fn limit(&mut self, most: usize) {
        self.most = most;
    }

    /// How many clients are remembered at most.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// What is known of `id`, which names a command with this checksum, while the store is at this version.
    pub fn look_up(&self, id: &SessionId, checksum: u32, version: u64) -> Known {
        let Some(client) = self.clients.get(&id.client) else {
            let forgotten = self.forgotten.as_ref().filter(|_| !cfg!(mutant = "forgotten_name_runs_again"));
            let is_forgotten = forgotten.is_some_and(|forgotten| forgotten.may_have(&id.client, version));
            return if is_forgotten { Known::NameForgotten } else { Known::New };
        };
        match client.outcomes.binary_search_by_key(&id.sequence, |answered| answered.sequence) {
            Ok(place) if client.outcomes[place].checksum != checksum => Known::Taken,
            Ok(place) => match client.outcomes[place].outcome {
                Remembered::Set { version } => Known::Answered(Outcome::Set { version }),
                Remembered::Deleted { existed } => Known::Answered(Outcome::Deleted { existed }),
                Remembered::ConditionFailed => Known::Failed,
            },
            Err(_) if Some(id.sequence) <= client.forgotten => Known::Forgotten,
            Err(_) => Known::New,
        }
    }

    /// Remembers the outcome of `id`, which was [`Known::New`]; it left the store at this version.
    pub fn remember(&mut self, id: &SessionId, checksum: u32, outcome: &Outcome, version: u64) {
        let outcome = match outcome {
            Outcome::Set { version } => Remembered::Set { version: *version },
            Outcome::Deleted { existed } => Remembered::Deleted { existed: *existed },
            Outcome::ConditionFailed { .. } if cfg!(mutant = "failed_condition_forgotten") => return,
            Outcome::ConditionFailed { .. } => Remembered::ConditionFailed,
            Outcome::FailedEarlier
            | Outcome::Forgotten
            | Outcome::NameForgotten
            | Outcome::NameTaken
            | Outcome::ClusterInitialized { .. } => return,
        };
        self.clock += 1;
        let name = match self.clients.get(&id.client) {
            Some(client) => self.by_age.remove(&client.heard).expect("every client has its place by age"),
            // What a request holds shares the memory of a whole batch.
            None => Bytes::copy_from_slice(&id.client),
        };
        let client = self.clients.entry(name.clone()).or_default();
        self.by_age.insert(self.clock, name);
        client.heard = self.clock;
        let place = client.outcomes.partition_point(|answered| answered.sequence < id.sequence);
        client.outcomes.insert(place, Answered { sequence: id.sequence, checksum, outcome });
        if client.outcomes.len() > SESSION_WINDOW {
            client.forgotten = Some(client.outcomes.remove(0).sequence);
        }
        if self.clients.len() > self.most
            && let Some((_, name)) = self.by_age.pop_first()
        {
            self.clients.remove(&name);
            if let Some(forgotten) = &mut self.forgotten {
                forgotten.add(&name, version);
            }
        }
    }

    /// From now on the names of clients that are forgotten are kept.
    pub fn keep_forgotten(&mut self) {
        self.forgotten.get_or_insert_default();
    }

    /// Their names are not kept, as an older netbelt would have it.
    pub fn forget_names(&mut self) {
        self.forgotten = None;
    }

    /// The names that were forgotten since they have been kept, if they are.
    pub(super) const fn forgotten(&self) -> Option<&Forgotten> {
        self.forgotten.as_ref()
    }

    /// Whether the names of clients that are forgotten are kept.
    pub const fn keeps_forgotten(&self) -> bool {
        self.forgotten.is_some()
    }

    /// How many such names are known one by one.
    pub fn forgotten_names(&self) -> usize {
        self.forgotten.as_ref().map_or(0, Forgotten::len)
    }

    /// The sessions with these clients, by age.
    pub(super) fn restore(clock: u64, clients: Vec<(Bytes, Client)>, forgotten: Option<Forgotten>) -> Self {
        let by_age = clients.iter().map(|(name, client)| (client.heard, name.clone())).collect();
        Self { most: MAX_CLIENTS, clients: clients.into_iter().collect(), by_age, clock, forgotten }
    }

    /// The clients, the one that has not been heard for longest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (&Bytes, &Client)> {
        self.by_age.values().map(|name| (name, &self.clients[name]))
    }

    /// How many named requests there have been.
    pub(super) const fn clock(&self) -> u64 {
        self.clock
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: &str, sequence: u64) -> SessionId {
        SessionId { client: Bytes::from(client.to_owned()), sequence }
    }

    fn set(version: u64) -> Outcome {
        Outcome::Set { version }
    }

    #[test]
    fn a_repeated_sequence_has_the_first_outcome_and_other_clients_have_their_own() {
        let mut sessions = Sessions::default();
        sessions.remember(&id("a", 7), 0, &set(1), 0);
        sessions.remember(&id("a", 5), 0, &Outcome::Deleted { existed: true }, 0);
        assert_eq!(sessions.look_up(&id("a", 7), 0, 0), Known::Answered(set(1)));
        assert_eq!(sessions.look_up(&id("a", 5), 0, 0), Known::Answered(Outcome::Deleted { existed: true }));
        assert_eq!(sessions.look_up(&id("a", 6), 0, 0), Known::New, "requests under way may overtake each other");
        assert_eq!(sessions.look_up(&id("b", 7), 0, 0), Known::New);
        assert_eq!(sessions.look_up(&id("a", 7), 1, 0), Known::Taken, "by another command");
    }

    #[test]
    fn a_sequence_below_what_is_remembered_is_not_taken_for_a_new_one() {
        let mut sessions = Sessions::default();
        let last = SESSION_WINDOW as u64 + 1;
        for sequence in 1..=last {
            sessions.remember(&id("a", sequence), 0, &set(sequence), 0);
        }
        assert_eq!(sessions.look_up(&id("a", 1), 0, 0), Known::Forgotten);
        assert_eq!(sessions.look_up(&id("a", 0), 0, 0), Known::Forgotten);
        assert_eq!(sessions.look_up(&id("a", 2), 0, 0), Known::Answered(set(2)));
        assert_eq!(sessions.look_up(&id("a", last + 1), 0, 0), Known::New);
    }

    #[test]
    fn the_client_that_has_not_written_for_longest_is_forgotten_first() {
        let mut sessions = Sessions::default();
        for client in 0..MAX_CLIENTS {
            sessions.remember(&id(&client.to_string(), 1), 0, &set(1), 0);
        }
        sessions.remember(&id("0", 2), 0, &set(2), 0);
        sessions.remember(&id("new", 1), 0, &set(3), 0);
        assert_eq!(sessions.len(), MAX_CLIENTS);
        assert_eq!(sessions.look_up(&id("1", 1), 0, 0), Known::NameForgotten, "as a whole");
        assert_eq!(sessions.look_up(&id("0", 1), 0, 0), Known::Answered(set(1)));
        assert_eq!(sessions.look_up(&id("new", 1), 0, 0), Known::Answered(set(3)));
    }
}
