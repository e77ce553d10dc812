//! Those who watch: their places, and how they join.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::pages::Cursor;
use super::teller::{self, Watcher};
use crate::defaults::MAX_WATCHERS;
use crate::http::events;
use crate::http::hangup::{Spent, StreamSlot};
use crate::http::reply::{Refusal, Reply};
use crate::kv::changes::Changes;
use crate::net::driver::{Handle, Stopped};
use crate::protocol::Protocol;

/// What all watchers of a node share.
#[derive(Debug)]
pub(in crate::http) struct Watchers {
    announced: watch::Receiver<u64>,
    over: CancellationToken,
    slots: Arc<Semaphore>,
    joining: mpsc::Sender<Watcher>,
    spent: Spent,
}

impl Watchers {
    /// Watchers that are told the `changes_of` the machine behind `node` up to the version in `announced`, until `over`.
    pub(in crate::http) fn new<P>(
        node: Handle<P>,
        changes_of: fn(&P) -> &Changes,
        announced: watch::Receiver<u64>,
        over: CancellationToken,
    ) -> Self
    where
        P: Protocol<Peer: Send, Message: Send, Command: Send, Timer: Send> + 'static,
    {
        let (joining, joined) = mpsc::channel(MAX_WATCHERS);
        let spent = Spent::default();
        let tell = teller::run(node, changes_of, joined, announced.clone(), spent.clone());
        let end = over.clone();
        tokio::spawn(async move { end.run_until_cancelled(tell).await });
        Self { announced, over, slots: Arc::new(Semaphore::new(MAX_WATCHERS)), joining, spent }
    }

    /// The version up to which changes may be told.
    pub(in crate::http) fn announced(&self) -> u64 {
        *self.announced.borrow()
    }

    /// A place for one more.
    pub(in crate::http) fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.over.is_cancelled() {
            return Err(Stopped.into());
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        slot.map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many watchers").retry_after(5))
    }

    /// The changes after a version of the keys that begin with `prefix`, to who has a place.
    pub(in crate::http) async fn tell(
        &self,
        prefix: Bytes,
        after: u64,
        slot: OwnedSemaphorePermit,
    ) -> Result<Reply, Refusal> {
        let (parts, body) = mpsc::channel(1);
        let cut = CancellationToken::new();
        let watcher = Watcher { prefix, at: Cursor::after(after), parts, cut: cut.clone() };
        self.joining.send(watcher).await.map_err(|_| Stopped)?;
        Ok(events::reply(body, StreamSlot::new(cut, self.spent.clone(), slot)))
    }
}
