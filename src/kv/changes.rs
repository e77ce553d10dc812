//! The latest changes of the store, for those who watch it. A node keeps them for itself: they are no part of the
//! replicated state, and a node that has just started has none.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::defaults::{MAX_CHANGES, MAX_CHANGES_BYTES};

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The version it gave the store.
    pub version: u64,
    /// The key.
    pub key: Bytes,
    /// Its value now; None when it was deleted.
    pub value: Option<Bytes>,
}

impl Change {
    /// Bytes of the key and the value.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The latest changes: at most [`MAX_CHANGES`] of them and [`MAX_CHANGES_BYTES`] bytes, and always the last one.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// One of each version, without a gap.
    ring: VecDeque<Change>,
    bytes: usize,
    /// The version before the first change kept.
    before: u64,
}

/// The changes asked for are not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes before version {oldest} are not kept any more: read the keys anew and go on from there")]
pub struct Gone {
    /// The oldest change that is kept, or would be.
    pub oldest: u64,
}

impl Changes {
    /// None yet, of a store that has `version`.
    pub const fn starting_after(version: u64) -> Self {
        Self { ring: VecDeque::new(), bytes: 0, before: version }
    }

    /// Adds the next change.
    pub fn push(&mut self, change: Change) {
        debug_assert_eq!(change.version, self.latest() + 1, "every version has one change");
        self.bytes += change.size();
        self.ring.push_back(change);
        while self.ring.len() > MAX_CHANGES || (self.bytes > MAX_CHANGES_BYTES && self.ring.len() > 1) {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.bytes -= oldest.size();
            self.before = oldest.version;
        }
    }

    /// The version of the latest change.
    pub fn latest(&self) -> u64 {
        self.ring.back().map_or(self.before, |change| change.version)
    }

    /// Every change after version `after`, oldest first; none yet for who is ahead of this node.
    ///
    /// # Errors
    /// When some of them are not kept any more.
    pub fn after(&self, after: u64) -> Result<impl Iterator<Item = &Change>, Gone> {
        let Some(skip) = after.checked_sub(self.before) else { return Err(Gone { oldest: self.before + 1 }) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(self.ring.range(skip.min(self.ring.len())..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: u64, key: &'static str) -> Change {
        Change { version, key: Bytes::from_static(key.as_bytes()), value: Some(Bytes::from_static(b"v")) }
    }

    fn versions(changes: &Changes, after: u64) -> Result<Vec<u64>, Gone> {
        changes.after(after).map(|changes| changes.map(|change| change.version).collect())
    }

    #[test]
    fn a_reader_that_is_too_far_behind_is_told_where_the_changes_begin() {
        let mut changes = Changes::starting_after(5);
        assert_eq!(versions(&changes, 4), Err(Gone { oldest: 6 }));
        assert_eq!(versions(&changes, 5), Ok(vec![]));
        for version in 6..=6 + MAX_CHANGES as u64 {
            changes.push(change(version, "k"));
        }
        assert_eq!(versions(&changes, 5), Err(Gone { oldest: 7 }));
        assert_eq!(versions(&changes, 6).unwrap().len(), MAX_CHANGES);
        assert_eq!(
            versions(&changes, MAX_CHANGES as u64 + 4),
            Ok(vec![MAX_CHANGES as u64 + 5, MAX_CHANGES as u64 + 6])
        );
    }

    #[test]
    fn large_changes_push_old_ones_out_but_the_last_one_stays() {
        let mut changes = Changes::default();
        let value = Bytes::from(vec![0; MAX_CHANGES_BYTES / 2]);
        for version in 1..=3 {
            changes.push(Change { version, key: Bytes::from_static(b"k"), value: Some(value.clone()) });
        }
        assert_eq!(versions(&changes, 1), Err(Gone { oldest: 3 }));
        let huge = Bytes::from(vec![0; MAX_CHANGES_BYTES * 2]);
        changes.push(Change { version: 4, key: Bytes::from_static(b"k"), value: Some(huge) });
        assert_eq!(versions(&changes, 3), Ok(vec![4]));
    }

    #[test]
    fn who_is_ahead_of_a_node_that_is_behind_waits() {
        assert_eq!(versions(&Changes::default(), 7), Ok(vec![]));
    }
}
