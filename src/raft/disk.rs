//! How a node's disk does, as far as that decides when a node loses patience: never what it says.

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Raft;
use crate::protocol::Time;

/// What the syncs so far tell of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Since when it has had records that it has not made durable.
    busy_since: Option<Time>,
    /// How long the last two syncs took.
    took: [Duration; 2],
}

/// Times decide nothing but when something happens: to a model checker, nodes that differ in them alone are the same.
impl Hash for Disk {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Disk {
    /// It was given a record.
    pub(super) fn given(&mut self, now: Time) {
        self.busy_since.get_or_insert(now);
    }

    /// It has made records durable; there may be more that it was given meanwhile.
    pub(super) fn synced(&mut self, now: Time, took: Duration, more: bool) {
        self.took = [took, self.took[0]];
        self.busy_since = more.then_some(now);
    }

    /// What a sync takes. One that took unusually long says nothing of the next.
    fn usual(&self) -> Duration {
        self.took[0].min(self.took[1])
    }
}

impl Raft {
    /// How long a follower waits for its leader, and a candidate for votes. A candidate makes its own vote durable, then the
    /// voters make theirs, and each of these may have to wait for a sync under way: an election takes four syncs. So a slow
    /// disk asks for more patience than the configuration has, and one that is fast enough changes nothing.
    pub(super) fn election_timeout(&self) -> RangeInclusive<Duration> {
        let configured = &self.config.election_timeout;
        let usual = if cfg!(mutant = "impatient_with_slow_disks") { Duration::ZERO } else { self.disk.usual() };
        let more = (4 * usual).saturating_sub(*configured.start());
        *configured.start() + more..=*configured.end() + more
    }

    /// Whether its disk stands still, as far as anybody can tell from a disk that is always slow.
    pub(super) fn disk_stands_still(&self, now: Time) -> bool {
        let patience = self.config.disk_patience.max(self.disk.usual().saturating_mul(4));
        self.disk.busy_since.is_some_and(|since| now.since(since) >= patience)
    }
}
