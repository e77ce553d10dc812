//! Requests that the machine works on, and who waits for their answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::defaults::ANSWER_GRACE;

/// Who waits for which answer.
#[derive(Debug)]
pub(super) struct PendingRequests<A>(Mutex<HashMap<u64, Pending<A>>>);

/// Who waits for an answer, and until when.
#[derive(Debug)]
struct Pending<A> {
    answer: oneshot::Sender<A>,
    until: Instant,
}

impl<A> Default for PendingRequests<A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<A> PendingRequests<A> {
    /// Passes an answer on to who waits for it; he may be gone.
    pub(super) fn answer(&self, id: u64, answer: A) {
        if let Some(pending) = self.lock().remove(&id) {
            drop(pending.answer.send(answer));
        }
    }

    /// Nobody will be answered any more.
    pub(super) fn give_up(&self) {
        self.lock().clear();
    }

    /// The answer to come, no later than `until` or a little after. The request is forgotten with what is returned second.
    pub(super) fn wait(&self, id: u64, until: Instant) -> (oneshot::Receiver<A>, Forget<'_, A>) {
        let (answer, answered) = oneshot::channel();
        self.lock().insert(id, Pending { answer, until });
        (answered, Forget { requests: self, id })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Pending<A>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Send + 'static> PendingRequests<A> {
    /// Answers that wait for the disk may come too late: whoever has waited for one as long as he wanted hears so from now on,
    /// as long as this is in use.
    pub(super) fn expire(self: &Arc<Self>) {
        let of_this = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(requests) = of_this.upgrade() {
                let now = Instant::now();
                requests.lock().retain(|_, pending| now < pending.until);
                drop(requests);
                tokio::time::sleep(ANSWER_GRACE).await;
            }
        });
    }
}

/// Takes a request out of the table when its connection does not wait for it any more.
pub(super) struct Forget<'a, A> {
    requests: &'a PendingRequests<A>,
    id: u64,
}

impl<A> Drop for Forget<'_, A> {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.id);
    }
}
