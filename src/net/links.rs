//! The links of a node, which follow its cluster's members.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::link::Outbox;
use super::transport::Transport;
use crate::protocol::Protocol;
use crate::wire::Wire;

/// A link to each peer whose address is known. Cheap to clone: all clones are the same links.
#[derive(Debug)]
pub struct Links<P>(Arc<Mutex<BTreeMap<P, Link>>>);

#[derive(Debug)]
struct Link {
    addr: String,
    outbox: Arc<Outbox>,
    _up: DropGuard,
}

/// How a link does.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// Where the peer is dialled.
    pub addr: String,
    /// Whether it is connected.
    pub is_up: bool,
    /// How many messages were dropped.
    pub dropped: u64,
}

impl<P: Copy + Ord> Links<P> {
    /// Links to exactly these peers from now on. A link that is new, or whose address is, is kept up by the future that
    /// `keep_up` gives for it, until it is not wanted any more.
    pub fn set<F>(&self, wanted: &BTreeMap<P, String>, keep_up: impl Fn(P, String, Arc<Outbox>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut links = self.lock();
        links.retain(|peer, link| wanted.get(peer) == Some(&link.addr));
        for (peer, addr) in wanted {
            links.entry(*peer).or_insert_with(|| {
                let (outbox, up) = (Arc::new(Outbox::default()), CancellationToken::new());
                let kept = keep_up(*peer, addr.clone(), Arc::clone(&outbox));
                let until = up.clone();
                tokio::spawn(async move { until.run_until_cancelled(kept).await });
                Link { addr: addr.clone(), outbox, _up: up.drop_guard() }
            });
        }
    }

    /// How each link does.
    pub fn states(&self) -> BTreeMap<P, LinkState> {
        let state = |link: &Link| LinkState {
            addr: link.addr.clone(),
            is_up: link.outbox.is_up(),
            dropped: link.outbox.dropped(),
        };
        self.lock().iter().map(|(peer, link)| (*peer, state(link))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<P, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Protocol<Message: Wire>> Transport<P> for Links<P::Peer> {
    /// Queues the message. Dropped when there is no link.
    fn put(&mut self, to: P::Peer, message: &P::Message) {
        if let Some(link) = self.lock().get(&to) {
            link.outbox.put(message);
        }
    }

    /// Sends what is queued, now or as soon as the peers take it.
    fn flush(&mut self) {
        self.lock().values().for_each(|link| link.outbox.flush());
    }
}

impl<P> Default for Links<P> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<P> Clone for Links<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts the links that are kept up.
    #[derive(Debug)]
    struct Kept(Arc<AtomicUsize>);

    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn links_follow_who_is_wanted_and_where() {
        let links = Links::<u8>::default();
        let (kept, started) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let keep = |_, _, _| {
            kept.fetch_add(1, Ordering::Relaxed);
            started.fetch_add(1, Ordering::Relaxed);
            let kept = Kept(Arc::clone(&kept));
            async move {
                let _kept = kept;
                std::future::pending::<()>().await;
            }
        };
        let addr = |text: &str| text.to_owned();
        links.set(&BTreeMap::from([(1, addr("a")), (2, addr("b"))]), keep);
        let before = links.states();
        assert_eq!(
            before.iter().map(|(peer, link)| (*peer, link.addr.as_str())).collect::<Vec<_>>(),
            [(1, "a"), (2, "b")]
        );
        // One stays, one moves, one comes; then all go but that one.
        links.set(&BTreeMap::from([(1, addr("a")), (2, addr("c")), (3, addr("d"))]), keep);
        assert_eq!(started.load(Ordering::Relaxed), 4);
        links.set(&BTreeMap::from([(3, addr("d"))]), keep);
        while kept.load(Ordering::Relaxed) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(links.states().into_keys().collect::<Vec<_>>(), [3]);
        assert_eq!(started.load(Ordering::Relaxed), 4);
    }
}
