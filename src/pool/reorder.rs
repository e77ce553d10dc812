//! Results in the order of their jobs.

use std::collections::BTreeMap;

/// Holds results back until it is their turn. Jobs are numbered from 1 without a gap.
#[derive(Debug)]
pub struct Reorder<T> {
    held: BTreeMap<u64, T>,
    next: u64,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), next: 1 }
    }
}

impl<T> Reorder<T> {
    /// Takes the result of a job.
    pub fn put(&mut self, number: u64, result: T) {
        let twice = self.held.insert(number, result);
        assert!(number >= self.next && twice.is_none(), "job {number} was done twice");
    }

    /// The result whose turn it is, if it is here.
    pub fn take_next(&mut self) -> Option<T> {
        let result = self.held.remove(&self.next)?;
        self.next += 1;
        Some(result)
    }

    /// The next result although those before it will never come.
    pub fn skip(&mut self) -> Option<T> {
        let (number, result) = self.held.pop_first()?;
        self.next = number + 1;
        Some(result)
    }
}
