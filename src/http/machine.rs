//! The machine behind a port: requests to it, and looks at it, with time-outs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use super::pending::PendingRequests;
use super::reply::Refusal;
use crate::defaults::{ANSWER_GRACE, REQUEST_TIMEOUT};
use crate::net::driver::{Handle, Stopped};
use crate::net::writer::DiskMetrics;
use crate::protocol::Protocol;

/// Why the node works no longer, once it does not: it stays up to say so.
pub type Halted = Arc<OnceLock<String>>;

/// What a request may have done although nobody answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayHave {
    /// Nothing.
    Read,
    /// It wrote to this node's disk: one that is full has refused that.
    Saved,
    /// It changed the state, here or elsewhere.
    Changed,
}

/// A machine whose requests are answered with `A`.
pub(super) struct Machine<P: Protocol, A> {
    pub(super) handle: Handle<P>,
    pub(super) halted: Halted,
    pending: Arc<PendingRequests<A>>,
    next_id: AtomicU64,
    disk: DiskMetrics,
}

impl<P: Protocol + 'static, A: Send + 'static> Machine<P, A> {
    /// The machine behind `handle`, whose answers go to `pending`. `first_id` must be larger than any number of an earlier life
    /// of this node.
    pub(super) fn new(
        handle: Handle<P>,
        pending: Arc<PendingRequests<A>>,
        first_id: u64,
        halted: Halted,
        disk: DiskMetrics,
    ) -> Self {
        pending.expire();
        Self { handle, halted, pending, next_id: AtomicU64::new(first_id), disk }
    }

    /// Asks what `command` makes of a number that this node has not used before, not even in an earlier life, and waits for
    /// the answer a little longer than `timeout`.
    pub(super) async fn ask(
        &self,
        command: impl FnOnce(u64) -> P::Command,
        may_have: MayHave,
        timeout: Duration,
    ) -> Result<A, Refusal> {
        if let Some(why) = self.halted.get() {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(5));
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // The machine knows more than that time is up, so it is let answer first.
        let until = Instant::now() + timeout + ANSWER_GRACE;
        let (answered, _forget) = self.pending.wait(id, until);
        self.handle.request(command(id)).await?;
        answered.await.map_err(|_| self.unanswered(may_have, until))
    }

    fn unanswered(&self, may_have: MayHave, until: Instant) -> Refusal {
        let unknown = |why| Refusal::new(StatusCode::GATEWAY_TIMEOUT, &format!("outcome unknown: {why}"));
        if until <= Instant::now() {
            let why = self.disk.stands_still().unwrap_or_else(|| "this node's disk is slow".to_owned());
            return match may_have {
                MayHave::Read => {
                    let message = format!("no answer in time: {why}");
                    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &message).retry_after(1)
                }
                MayHave::Saved | MayHave::Changed => unknown(why),
            };
        }
        match (self.halted.get(), may_have) {
            (Some(why), MayHave::Changed) => unknown(why.clone()),
            // A disk that has refused to take a snapshot has none.
            (Some(why), MayHave::Read | MayHave::Saved) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why),
            (None, MayHave::Saved | MayHave::Changed) => Refusal::outcome_unknown(),
            (None, MayHave::Read) => Refusal::from(Stopped),
        }
    }

    /// Looks at the machine, with patience: reports must not hang when the machine does.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&P) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let looked = tokio::time::timeout(REQUEST_TIMEOUT, self.handle.inspect(look)).await;
        Ok(looked.map_err(|_| Refusal::from(Stopped))??)
    }
}
