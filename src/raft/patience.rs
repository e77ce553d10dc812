//! When a node loses patience: with a leader it does not hear, with voters that do not answer, with its own disk. None of it
//! decides what a node says, only when.

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::protocol::Time;

/// Candidacies that came to nothing, beyond which patience grows no more.
const MOST_FRUITLESS: u32 = 4;

/// A disk that takes longer is not waited for any longer: a leader that is gone must be missed some time.
const LONGEST_SYNC: Duration = Duration::from_secs(1);

/// What a node's patience goes by, beside its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Patience {
    /// Since when the disk has had records that are not durable.
    busy_since: Option<Time>,
    /// How long the last two syncs took.
    took: [Duration; 2],
    /// Candidacies that came to nothing, one after the other.
    fruitless: u32,
}

/// To a model checker, nodes that differ only in when they lose patience are the same: it lets them do so at any time.
impl Hash for Patience {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Patience {
    /// The disk was given a record.
    pub(super) fn record_given(&mut self, now: Time) {
        self.busy_since.get_or_insert(now);
    }

    /// The disk has made records durable; there may be more that it was given meanwhile.
    pub(super) fn synced(&mut self, now: Time, took: Duration, more: bool) {
        self.took = [took, self.took[0]];
        self.busy_since = more.then_some(now);
    }

    /// A candidacy came to nothing: perhaps the voters were not given the time to answer.
    pub(super) fn candidacy_failed(&mut self) {
        self.fruitless = (self.fruitless + 1).min(MOST_FRUITLESS);
    }

    /// There is a leader.
    pub(super) const fn leader_found(&mut self) {
        self.fruitless = 0;
    }

    /// What a sync takes. One that took unusually long says nothing of the next.
    fn usual_sync(&self) -> Duration {
        if cfg!(mutant = "impatient_with_slow_disks") {
            return Duration::ZERO;
        }
        self.took[0].min(self.took[1]).min(LONGEST_SYNC)
    }

    /// How long a follower waits for its leader, and a candidate for votes.
    ///
    /// A candidate makes its own vote durable, then the voters make theirs, and each of these may have to wait for a sync under
    /// way: an election takes up to four syncs. So a slow disk asks for more time than the configuration gives, and one that
    /// is fast enough changes nothing. Of the voters' disks a candidate knows nothing: it gives them more time with each
    /// candidacy that came to nothing.
    pub(super) fn election_timeout(&self, configured: &RangeInclusive<Duration>) -> RangeInclusive<Duration> {
        let slow_disk = (4 * self.usual_sync()).saturating_sub(*configured.start());
        let more = slow_disk + *configured.start() * self.fruitless;
        *configured.start() + more..=*configured.end() + more
    }

    /// Whether the disk stands still, as far as anybody can tell from a disk that is always slow.
    pub(super) fn disk_stands_still(&self, now: Time, configured: Duration) -> bool {
        let patience = configured.max(self.usual_sync().saturating_mul(4));
        self.busy_since.is_some_and(|since| now.since(since) >= patience)
    }
}
