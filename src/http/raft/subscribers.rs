//! Who waits for what the driver tells.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answers::Answered;
use crate::http::pending::PendingRequests;
use crate::kv::raft_kv::Event;
use crate::raft::RoleName;

/// Requests that wait for their answers, and watchers that wait for changes. The driver's events go here. Cheap to clone.
#[derive(Clone, Default)]
pub struct Subscribers {
    pub(super) requests: Arc<PendingRequests<Answered>>,
    /// The version up to which changes may be told.
    pub(super) announced: Arc<watch::Sender<u64>>,
    /// Nothing will be announced any more.
    pub(super) over: CancellationToken,
}

impl Subscribers {
    /// Passes an event on to whom it concerns.
    pub fn on_event(&self, event: Event) {
        match event {
            Event::Answered { id, answer } => self.requests.answer(id.0, answer),
            Event::MembersChanged(_) => {}
            Event::SnapshotRefused { from, why } => {
                tracing::error!(
                    "cannot take the snapshot of {from}: {why}; this node stays behind until it is restarted, or another node leads"
                );
            }
            Event::Changed { through } => drop(self.announced.send_replace(through)),
            Event::RoleChanged { role, term, leader } => match (role, leader) {
                (RoleName::PreCandidate, _) => tracing::info!("asks for pre-votes, still in term {}", term.0),
                (_, Some(leader)) => tracing::info!("{} in term {}, leader {leader}", role.as_str(), term.0),
                (_, None) => tracing::info!("{} in term {}, no leader known", role.as_str(), term.0),
            },
        }
    }

    /// Nobody will be answered any more.
    pub fn give_up(&self) {
        self.requests.give_up();
        self.dismiss_watchers();
    }

    /// Those who watch are to go on elsewhere.
    pub fn dismiss_watchers(&self) {
        self.over.cancel();
    }
}
