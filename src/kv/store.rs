//! The store: an ordered map with a version a key. Same commands in the same order, same answers, on every node.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::changes::Change;
use super::command::{Condition, Outcome, Versioned};
use super::key::{Key, Keyed, Probe};
use crate::defaults::MAX_LIST_BYTES;

/// Keys in order, each with its value and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    map: BTreeMap<Key, Versioned>,
    /// How often the store has changed; the version of the latest change.
    version: u64,
    /// What keys and values take.
    bytes: usize,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys in order.
    pub items: Vec<(Bytes, Versioned)>,
    /// Whether keys follow that are not on this page.
    pub more: bool,
}

impl Store {
    /// A store with these items, in the order of their keys, whose latest change had `version`.
    pub(super) fn restore(version: u64, items: Vec<(Bytes, Versioned)>) -> Self {
        let bytes = items.iter().map(|(key, versioned)| key.len() + versioned.value.len()).sum();
        Self { map: items.into_iter().map(|(key, versioned)| (Key::new(key), versioned)).collect(), version, bytes }
    }

    /// Sets a key, if the condition holds. Also tells the change, if there is one.
    pub fn set(&mut self, key: &[u8], value: &[u8], condition: Option<&Condition>) -> (Outcome, Option<Change>) {
        if let Some(failed) = self.check(key, condition) {
            return (failed, None);
        }
        self.version += 1;
        // What a request holds shares the memory of a whole batch, which must not stay for the sake of one key.
        let (version, value) = (self.version, Bytes::copy_from_slice(value));
        let versioned = Versioned { value: value.clone(), version };
        self.bytes += value.len();
        match self.map.get_mut::<dyn Keyed>(&Probe::new(key)) {
            Some(current) => self.bytes -= std::mem::replace(current, versioned).value.len(),
            None => {
                self.bytes += key.len();
                self.map.insert(Key::new(Bytes::copy_from_slice(key)), versioned);
            }
        }
        (Outcome::Set { version }, Some(Change { version, key: Bytes::copy_from_slice(key), value: Some(value) }))
    }

    /// Removes a key, if the condition holds. Also tells the change, if there is one.
    pub fn delete(&mut self, key: &[u8], condition: Option<&Condition>) -> (Outcome, Option<Change>) {
        if let Some(failed) = self.check(key, condition) {
            return (failed, None);
        }
        let Some((key, versioned)) = self.map.remove_entry::<dyn Keyed>(&Probe::new(key)) else {
            return (Outcome::Deleted { existed: false }, None);
        };
        self.bytes -= key.get().len() + versioned.value.len();
        self.version += 1;
        (Outcome::Deleted { existed: true }, Some(Change { version: self.version, key: key.into_bytes(), value: None }))
    }

    /// The outcome of a command whose condition does not hold.
    pub fn check(&self, key: &[u8], condition: Option<&Condition>) -> Option<Outcome> {
        let condition = condition?;
        let current = self.get(key);
        let holds = match (condition, current) {
            (Condition::Absent, None) => true,
            (Condition::Value(value), Some(current)) => current.value == *value,
            (Condition::Version(version), Some(current)) => current.version == *version,
            (Condition::Absent, Some(_)) | (Condition::Value(_) | Condition::Version(_), None) => false,
        };
        if holds { None } else { Some(Outcome::ConditionFailed { current: current.cloned() }) }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.map.get::<dyn Keyed>(&Probe::new(key))
    }

    /// Keys that begin with `prefix` and come after `after`, at most `limit` of them and about
    /// [`MAX_LIST_BYTES`] bytes.
    pub fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Page {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut rest = self.from(from).take_while(|(key, _)| key.starts_with(prefix));
        let mut items = Vec::new();
        let mut bytes = 0;
        while items.len() < limit && bytes < MAX_LIST_BYTES {
            let Some((key, versioned)) = rest.next() else { return Page { items, more: false } };
            bytes += key.len() + versioned.value.len();
            items.push((key.clone(), versioned.clone()));
        }
        Page { items, more: rest.next().is_some() }
    }

    /// The items whose keys come after `key`, in order; all of them without one.
    pub(super) fn after(&self, key: Option<&[u8]>) -> impl Iterator<Item = (&Bytes, &Versioned)> {
        self.from(key.map_or(Bound::Unbounded, Bound::Excluded))
    }

    fn from(&self, bound: Bound<&[u8]>) -> impl Iterator<Item = (&Bytes, &Versioned)> {
        let probe = bound.map(Probe::new);
        let from = probe.as_ref().map(|probe| probe as &dyn Keyed);
        self.map.range::<dyn Keyed, _>((from, Bound::Unbounded)).map(|(key, versioned)| (key.get(), versioned))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// What all keys and values take, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The version of the latest change.
    pub const fn version(&self) -> u64 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(store: &mut Store, key: &str, value: &str, condition: Option<&Condition>) -> Outcome {
        store.set(key.as_bytes(), value.as_bytes(), condition).0
    }

    fn delete(store: &mut Store, key: &str) -> Outcome {
        store.delete(key.as_bytes(), None).0
    }

    fn keys(page: &Page) -> Vec<&str> {
        page.items.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
    }

    #[test]
    fn a_version_is_never_used_twice_even_when_a_key_comes_back() {
        let mut store = Store::default();
        assert_eq!(set(&mut store, "a", "1", None), Outcome::Set { version: 1 });
        assert_eq!(delete(&mut store, "a"), Outcome::Deleted { existed: true });
        assert_eq!(delete(&mut store, "a"), Outcome::Deleted { existed: false });
        assert_eq!(set(&mut store, "a", "1", None), Outcome::Set { version: 3 });
        let stale = set(&mut store, "a", "2", Some(&Condition::Version(1)));
        let current = Some(Versioned { value: Bytes::from("1"), version: 3 });
        assert_eq!(stale, Outcome::ConditionFailed { current });
    }

    #[test]
    fn a_failed_condition_changes_nothing() {
        let mut store = Store::default();
        let absent = Outcome::ConditionFailed { current: None };
        assert_eq!(set(&mut store, "a", "1", Some(&Condition::Value(Bytes::from("0")))), absent);
        assert_eq!(set(&mut store, "a", "1", Some(&Condition::Version(1))), absent);
        assert_eq!(set(&mut store, "a", "1", Some(&Condition::Absent)), Outcome::Set { version: 1 });
        let taken = Outcome::ConditionFailed { current: store.get(b"a").cloned() };
        assert_eq!(set(&mut store, "a", "2", Some(&Condition::Absent)), taken);
        assert_eq!((store.version(), store.len()), (1, 1));
        assert_eq!(set(&mut store, "a", "2", Some(&Condition::Value(Bytes::from("1")))), Outcome::Set { version: 2 });
    }

    #[test]
    fn pages_of_a_listing_join_without_gap_or_repetition() {
        let mut store = Store::default();
        for key in ["a", "b/1", "b/2", "b/3", "b0", "c"] {
            set(&mut store, key, "x", None);
        }
        let first = store.list(b"b/", None, 2);
        assert_eq!((keys(&first), first.more), (vec!["b/1", "b/2"], true));
        let second = store.list(b"b/", Some(b"b/2"), 2);
        assert_eq!((keys(&second), second.more), (vec!["b/3"], false));
        let exact = store.list(b"b/", None, 3);
        assert_eq!((keys(&exact).len(), exact.more), (3, false));
        assert_eq!(keys(&store.list(b"", Some(b"b/3"), 9)), ["b0", "c"]);
        assert_eq!(keys(&store.list(b"b/", Some(b"a"), 9)), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys(&store.list(b"", Some(b"b/15"), 1)), ["b/2"], "after need not be a key");
    }

    #[test]
    fn the_bytes_of_a_store_are_those_of_its_keys_and_values() {
        let mut store = Store::default();
        set(&mut store, "a", "12345", None);
        set(&mut store, "bc", "1", None);
        set(&mut store, "a", "123", None);
        assert_eq!(store.bytes(), 4 + 3);
        let items = store.after(None).map(|(key, versioned)| (key.clone(), versioned.clone())).collect();
        assert_eq!(Store::restore(3, items), store);
        delete(&mut store, "a");
        delete(&mut store, "a");
        assert_eq!(store.bytes(), 3);
    }

    #[test]
    fn a_page_of_large_values_ends_early_and_says_that_more_follows() {
        let mut store = Store::default();
        let value = Bytes::from(vec![b'x'; 1 << 20]);
        for number in 0..8 {
            store.set(format!("k{number}").as_bytes(), &value, None);
        }
        let page = store.list(b"", None, 100);
        assert_eq!((page.items.len(), page.more), (4, true));
    }
}
