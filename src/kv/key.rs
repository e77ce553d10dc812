//! Keys as the store keeps them: in order, and found without a look at each one's bytes.
//!
//! A key's bytes lie anywhere in memory, and to fetch them costs more than all else that a search does: some twenty times
//! a search among ten thousand keys. So a key carries its first 16 bytes with it. Only where these are equal are the
//! others looked at.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

/// How many bytes a key carries with it.
const HEAD: usize = 16;

/// A key of a map, ordered as its bytes are.
#[derive(Clone, Debug)]
pub(super) struct Key {
    head: u128,
    bytes: Bytes,
}

/// Something to look for among [`Key`]s.
pub(super) struct Probe<'a> {
    head: u128,
    bytes: &'a [u8],
}

/// What a [`Key`] and a [`Probe`] have in common.
pub(super) trait Keyed {
    /// The first bytes as a number, zeros behind them where there are fewer: smaller where the bytes come earlier.
    fn head(&self) -> u128;
    /// All bytes.
    fn bytes(&self) -> &[u8];
}

impl Key {
    /// The key with these bytes.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { head: head_of(&bytes), bytes }
    }

    /// Its bytes.
    pub(super) const fn get(&self) -> &Bytes {
        &self.bytes
    }

    /// Its bytes, taken out.
    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl<'a> Probe<'a> {
    /// Looks for these bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { head: head_of(bytes), bytes }
    }
}

fn head_of(bytes: &[u8]) -> u128 {
    let mut head = [0; HEAD];
    let len = bytes.len().min(HEAD);
    head[..len].copy_from_slice(&bytes[..len]);
    u128::from_be_bytes(head)
}

impl Keyed for Key {
    fn head(&self) -> u128 {
        self.head
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Keyed for Probe<'_> {
    fn head(&self) -> u128 {
        self.head
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

impl<'a> Borrow<dyn Keyed + 'a> for Key {
    fn borrow(&self) -> &(dyn Keyed + 'a) {
        self
    }
}

impl Ord for dyn Keyed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head().cmp(&other.head()).then_with(|| self.bytes().cmp(other.bytes()))
    }
}

impl PartialOrd for dyn Keyed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Keyed + '_ {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| self.bytes.cmp(&other.bytes))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few different bytes, so that many keys begin alike, and zeros, which look like the end of a short key.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(0xff)], 0..20)
    }

    proptest! {
        #[test]
        fn keys_and_probes_are_ordered_as_their_bytes_are(a in bytes(), b in bytes()) {
            let (x, y) = (Key::new(a.clone().into()), Key::new(b.clone().into()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let (x, y): (&dyn Keyed, &dyn Keyed) = (&Probe::new(&a), &y);
            prop_assert_eq!(x.cmp(y), a.cmp(&b));
        }
    }
}
