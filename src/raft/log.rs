//! The log in memory: entries, where terms begin and end, and the configurations among them.
//!
//! It begins after its *base*: what stood there and before was applied, and is in a snapshot or on the disk.

use std::collections::VecDeque;

use super::configuration::Configuration;
use super::types::{Entry, Index, Payload, Position, Term};

/// A log of entries with consecutive indices and terms that never decrease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    base: Position,
    entries: VecDeque<Entry>,
    /// What they take, by [`Entry::size`].
    bytes: usize,
    /// Every configuration that the entries hold, and before them the one that held at the base; never empty.
    configurations: Vec<(Position, Configuration)>,
}

impl Log {
    /// An empty log after `base`, where `configuration` holds.
    pub fn new(base: Position, configuration: Configuration) -> Self {
        Self { base, entries: VecDeque::new(), bytes: 0, configurations: vec![(base, configuration)] }
    }

    /// The place before the first entry kept; [`Position::ORIGIN`] while nothing has been compacted.
    pub const fn base(&self) -> Position {
        self.base
    }

    /// The index of the first entry kept.
    pub const fn first_index(&self) -> Index {
        self.base.index.next()
    }

    /// The last entry's place; the base of an empty log.
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What they take, by [`Entry::size`].
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at `index`.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.place(index)?)
    }

    /// The place at `index`: of an entry, or of the base.
    pub fn position(&self, index: Index) -> Option<Position> {
        if index == self.base.index { Some(self.base) } else { self.get(index).map(|entry| entry.position) }
    }

    /// Whether the log contains the entry named by `position`, hence all before it (Raft §5.3).
    pub fn contains(&self, position: Position) -> bool {
        self.position(position.index) == Some(position)
    }

    /// Clones entries from `from` on, until `max_bytes` are passed; at least one when there is one.
    pub fn from(&self, from: Index, max_bytes: usize) -> Vec<Entry> {
        let start = self.place(from).map_or(usize::MAX, |place| place);
        let mut bytes = 0;
        let within = self.entries.range(start.min(self.entries.len())..).take_while(|entry| {
            let fits = bytes < max_bytes;
            bytes += entry.size();
            fits
        });
        within.cloned().collect()
    }

    /// Clones the entries after `after`, which is kept or the base, up to and including `through`.
    pub fn between(&self, after: Index, through: Index) -> Vec<Entry> {
        let place = |index: Index| (index.0 - self.base.index.0) as usize;
        self.entries.range(place(after)..place(through)).cloned().collect()
    }

    /// Appends an entry, which must come right after the last one.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.position.index, last.index.next(), "the log has no gaps");
        assert!(entry.position.term >= last.term, "terms in a log never decrease");
        if let Payload::Configuration(configuration) = &entry.payload {
            self.configurations.push((entry.position, configuration.clone()));
        }
        self.bytes += entry.size();
        self.entries.push_back(entry);
    }

    /// Removes the entry at `index`, which is after the base, and everything after it.
    pub fn truncate_from(&mut self, index: Index) {
        let place = self.place(index).expect("what is gone was applied, hence committed, and stays");
        let gone = self.entries.drain(place.min(self.entries.len())..);
        self.bytes -= gone.map(|entry| entry.size()).sum::<usize>();
        if !cfg!(mutant = "truncation_keeps_members") {
            self.configurations.retain(|(position, _)| position.index < index);
        }
    }

    /// Forgets the entries up to and including `through`, which have been applied.
    pub fn compact(&mut self, through: Index) {
        let Some(base) = self.position(through) else { return };
        let gone = self.entries.drain(..(through.0 - self.base.index.0) as usize);
        self.bytes -= gone.map(|entry| entry.size()).sum::<usize>();
        self.base = base;
        let passed = self.configurations.partition_point(|(position, _)| position.index <= through);
        self.configurations.drain(..passed - 1);
    }

    /// The first index that holds an entry of `term` or a later one; one past the end when none does.
    pub fn first_index_not_before(&self, term: Term) -> Index {
        let place = self.entries.partition_point(|entry| entry.position.term < term) as u64;
        Index(self.base.index.0 + place + 1)
    }

    /// The last index whose entry, or the base, is of `term`.
    pub fn last_index_of(&self, term: Term) -> Option<Index> {
        let index = self.first_index_not_before(term.next()).prev();
        (self.position(index)?.term == term && index > Index(0)).then_some(index)
    }

    /// The latest configuration, committed or not (thesis §4.1).
    pub fn configuration(&self) -> &Configuration {
        &self.latest().1
    }

    /// The configuration before the latest one, unless that is the one of the base.
    pub fn earlier_configuration(&self) -> Option<&Configuration> {
        let earlier = self.configurations.len().checked_sub(2)?;
        Some(&self.configurations[earlier].1)
    }

    /// Where the latest configuration stands: at an entry, or at or before the base.
    pub fn configuration_position(&self) -> Position {
        self.latest().0
    }

    /// The configuration that holds at `index`, which is kept or the base.
    pub fn configuration_at(&self, index: Index) -> &Configuration {
        let known = self.configurations.iter().rev().find(|(position, _)| position.index <= index);
        &known.unwrap_or(&self.configurations[0]).1
    }

    fn latest(&self) -> &(Position, Configuration) {
        self.configurations.last().expect("a log has the configuration of its base")
    }

    /// Where the entry at `index` is in memory, or would be.
    fn place(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Member;
    use super::*;
    use crate::node_id::NodeId;

    fn entry(term: u64, index: u64, payload: Payload) -> Entry {
        Entry { position: Position { term: Term(term), index: Index(index) }, payload }
    }

    fn members(count: usize) -> Configuration {
        (1..=count).map(|number| (NodeId::numbered(number), Member::default())).collect()
    }

    #[test]
    fn what_is_compacted_is_gone_and_the_rest_keeps_its_place() {
        let mut log = Log::new(Position::ORIGIN, members(1));
        for (term, index) in [(1, 1), (1, 2), (3, 3), (3, 4)] {
            log.push(entry(term, index, Payload::Noop));
        }
        log.compact(Index(3));
        assert_eq!((log.first_index(), log.len(), log.last().index), (Index(4), 1, Index(4)));
        assert_eq!((log.get(Index(3)), log.position(Index(2))), (None, None));
        assert!(log.contains(Position { term: Term(3), index: Index(3) }), "the base is known by its place");
        assert_eq!(log.last_index_of(Term(3)), Some(Index(4)));
        assert_eq!(log.last_index_of(Term(1)), None);
        assert_eq!(log.from(Index(4), 1).len(), 1);
        assert!(log.from(Index(2), 1).is_empty());
        log.compact(Index(2));
        assert_eq!(log.base().index, Index(3), "it never grows back");
        log.truncate_from(Index(4));
        assert_eq!(log.last(), log.base());
    }

    #[test]
    fn a_configuration_counts_from_its_entry_on_and_goes_with_it() {
        let mut log = Log::new(Position::ORIGIN, members(1));
        log.push(entry(1, 1, Payload::Noop));
        log.push(entry(1, 2, Payload::Configuration(members(2))));
        log.push(entry(1, 3, Payload::Configuration(members(3))));
        assert_eq!(log.configuration(), &members(3));
        assert_eq!(log.configuration_at(Index(2)), &members(2));
        log.truncate_from(Index(3));
        assert_eq!((log.configuration(), log.configuration_position().index), (&members(2), Index(2)));
        log.compact(Index(2));
        assert_eq!(log.configuration_at(Index(2)), &members(2));
        log.push(entry(2, 3, Payload::Configuration(members(4))));
        log.truncate_from(Index(3));
        assert_eq!(log.configuration(), &members(2), "the base keeps its own");
    }
}
