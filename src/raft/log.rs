//! The log in memory: entries, and where terms begin and end.
//!
//! Compaction will move the beginning; until then the log starts at index 1.

use std::collections::VecDeque;

use super::types::{Entry, Index, Position, Term};

/// A log of entries with consecutive indices and terms that never decrease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
}

impl Log {
    /// The index of the first entry kept.
    pub const fn first_index(&self) -> Index {
        Index(1)
    }

    /// The last entry's place; [`Position::ORIGIN`] of an empty log.
    pub fn last(&self) -> Position {
        self.entries.back().map_or(Position::ORIGIN, |entry| entry.position)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at `index`.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.0.checked_sub(1)?).ok()?)
    }

    /// The place at `index`: of an entry, or of the origin.
    pub fn position(&self, index: Index) -> Option<Position> {
        if index == Index(0) { Some(Position::ORIGIN) } else { self.get(index).map(|entry| entry.position) }
    }

    /// Whether the log contains the entry named by `position`, hence all before it (Raft §5.3).
    pub fn contains(&self, position: Position) -> bool {
        self.position(position.index) == Some(position)
    }

    /// Clones entries from `from` on, until `max_bytes` are passed; at least one when there is one.
    pub fn from(&self, from: Index, max_bytes: usize) -> Vec<Entry> {
        let start = from.prev().0 as usize;
        let mut bytes = 0;
        let within = self.entries.range(start.min(self.entries.len())..).take_while(|entry| {
            let fits = bytes < max_bytes;
            bytes += entry.size();
            fits
        });
        within.cloned().collect()
    }

    /// Clones the entries after `after` up to and including `through`.
    pub fn between(&self, after: Index, through: Index) -> Vec<Entry> {
        self.entries.range(after.0 as usize..through.0 as usize).cloned().collect()
    }

    /// Appends an entry, which must come right after the last one.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.position.index, last.index.next(), "the log has no gaps");
        assert!(entry.position.term >= last.term, "terms in a log never decrease");
        self.entries.push_back(entry);
    }

    /// Removes the entry at `index` and everything after it.
    pub fn truncate_from(&mut self, index: Index) {
        self.entries.truncate(index.prev().0 as usize);
    }

    /// The first index that holds an entry of `term` or a later one; one past the end when none does.
    pub fn first_index_not_before(&self, term: Term) -> Index {
        Index(self.entries.partition_point(|entry| entry.position.term < term) as u64 + 1)
    }

    /// The last index whose entry is of `term`.
    pub fn last_index_of(&self, term: Term) -> Option<Index> {
        let index = self.first_index_not_before(term.next()).prev();
        (self.position(index)?.term == term && index > Index(0)).then_some(index)
    }
}
