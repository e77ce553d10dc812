//! The names of clients whose sessions are remembered no more. A write under one of them may be a copy of one that was
//! carried out long ago, so it must not be carried out again.
//!
//! A name that says since when it has been in use, `NAME;since=VERSION`, needs no memory: names in use since the same
//! version of the store as a forgotten one, or an earlier one, are taken for forgotten, for ever. Whoever is refused
//! wrongly takes a name since now. As long as the version stands still there is no later one to take, and such names are
//! told apart as all others are.
//!
//! Of any other name 64 bits of its SHA-256 are kept. Two names that have them in common, one pair in 2^64, only cost the
//! other one a refusal. The latest [`FORGOTTEN_GENERATION`] times [`FORGOTTEN_GENERATIONS`] names are known, and up to a
//! generation more; of older ones nothing is. It takes 8 bytes a name, and some three times that of the names of the youngest
//! generation: 16 MiB at most, 10 of them in every snapshot.

use std::collections::{BTreeSet, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::defaults::{FORGOTTEN_GENERATION, FORGOTTEN_GENERATIONS};

/// What stands between a name and the version since which it has been in use.
const SINCE: &str = ";since=";

/// What is known of forgotten names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// The latest version since which one of them had been in use.
    since: Option<u64>,
    /// Fingerprints, the oldest generation first: ascending, big-endian. Views share them.
    sealed: VecDeque<Bytes>,
    young: BTreeSet<u64>,
}

impl Forgotten {
    /// What a snapshot holds: [`Forgotten::since`], and fingerprints in the order of [`Forgotten::fingerprints`].
    pub(super) fn restore(since: Option<u64>, fingerprints: &[u64]) -> Self {
        let generations = fingerprints.chunks_exact(FORGOTTEN_GENERATION);
        let young = generations.remainder().iter().copied().collect();
        Self { since, sealed: generations.map(|generation| sealed(generation.iter().copied())).collect(), young }
    }

    /// Adds a name, of which the store at this version will not remember what it did.
    pub(super) fn add(&mut self, name: &[u8], version: u64) {
        if let Some(since) = since(name).filter(|since| *since <= version) {
            self.since = self.since.max(Some(since));
            if since < version {
                return;
            }
        }
        self.young.insert(fingerprint(name));
        if self.young.len() == FORGOTTEN_GENERATION {
            self.sealed.push_back(sealed(std::mem::take(&mut self.young)));
            if self.sealed.len() > FORGOTTEN_GENERATIONS {
                self.sealed.pop_front();
            }
        }
    }

    /// Whether a name that is not remembered may be one of these, while the store is at this version.
    pub(super) fn may_have(&self, name: &[u8], version: u64) -> bool {
        if since(name).is_some_and(|since| since < version && Some(since) <= self.since) {
            return true;
        }
        let fingerprint = fingerprint(name);
        self.young.contains(&fingerprint) || self.sealed.iter().any(|generation| is_in(generation, fingerprint))
    }

    /// The latest version since which a forgotten name had been in use.
    pub(super) const fn since(&self) -> Option<u64> {
        self.since
    }

    /// The fingerprints as bytes: generations that change no more, and the youngest.
    pub(super) fn fingerprints(&self) -> (impl Iterator<Item = &Bytes>, impl Iterator<Item = u64>) {
        (self.sealed.iter(), self.young.iter().copied())
    }

    /// How many fingerprints there are.
    pub(super) fn len(&self) -> usize {
        self.sealed.len() * FORGOTTEN_GENERATION + self.young.len()
    }
}

fn sealed(generation: impl IntoIterator<Item = u64>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FORGOTTEN_GENERATION * size_of::<u64>());
    generation.into_iter().for_each(|fingerprint| bytes.put_u64(fingerprint));
    bytes.freeze()
}

/// Whether it is in a generation that is sealed.
fn is_in(generation: &Bytes, fingerprint: u64) -> bool {
    let (fingerprints, _) = generation.as_chunks::<8>();
    fingerprints.binary_search_by_key(&fingerprint, |bytes| u64::from_be_bytes(*bytes)).is_ok()
}

/// The version since which a name says it has been in use.
fn since(name: &[u8]) -> Option<u64> {
    let (_, version) = std::str::from_utf8(name).ok()?.rsplit_once(SINCE)?;
    version.parse().ok().filter(|_| version.bytes().all(|byte| byte.is_ascii_digit()))
}

fn fingerprint(name: &[u8]) -> u64 {
    let hash = Sha256::digest(name);
    u64::from_be_bytes(*hash.first_chunk().expect("it has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_million_forgotten_names_are_known_and_memory_stays_bounded() {
        let mut forgotten = Forgotten::default();
        let most = FORGOTTEN_GENERATION * (FORGOTTEN_GENERATIONS + 1);
        let name = |number: usize| format!("client-{number}").into_bytes();
        for number in 0..most {
            forgotten.add(&name(number), 0);
        }
        assert_eq!(forgotten.len(), most - FORGOTTEN_GENERATION, "the oldest generation has gone");
        assert!(forgotten.len() >= 1_000_000);
        for number in (FORGOTTEN_GENERATION..most).step_by(997) {
            assert!(forgotten.may_have(&name(number), 0), "{number}");
        }
        assert!((0..FORGOTTEN_GENERATION).step_by(997).all(|number| !forgotten.may_have(&name(number), 0)));
        assert!((most..2 * most).step_by(997).all(|number| !forgotten.may_have(&name(number), 0)));
    }

    #[test]
    fn a_name_that_says_since_when_it_has_been_in_use_needs_no_memory() {
        let mut forgotten = Forgotten::default();
        forgotten.add(b"a;since=7", 9);
        assert_eq!((forgotten.len(), forgotten.since()), (0, Some(7)));
        assert!(forgotten.may_have(b"a;since=7", 9));
        assert!(forgotten.may_have(b"b;since=7", 9) && forgotten.may_have(b"b;since=0", 9), "nobody can tell");
        assert!(!forgotten.may_have(b"a;since=8", 9), "it is a later one");
        for plain in
            [&b"a"[..], b"a;since=", b"a;since=-1", b"a;since=+1", b"a;since=1x", b"a@1", b"since=1", b"\xff;since=1"]
        {
            assert!(!forgotten.may_have(plain, 9), "{plain:?}");
        }
    }

    #[test]
    fn while_the_version_stands_still_names_since_now_are_told_apart() {
        let mut forgotten = Forgotten::default();
        forgotten.add(b"a;since=7", 7);
        assert!(forgotten.may_have(b"a;since=7", 7));
        assert!(!forgotten.may_have(b"b;since=7", 7), "there is no later version to take");
        assert!(forgotten.may_have(b"b;since=7", 8), "now there is");
        assert!(forgotten.may_have(b"b;since=6", 7));
    }

    #[test]
    fn a_name_since_a_version_that_is_yet_to_come_is_one_like_any_other() {
        let mut forgotten = Forgotten::default();
        forgotten.add(b"a;since=18446744073709551615", 7);
        assert!(forgotten.may_have(b"a;since=18446744073709551615", 8));
        assert_eq!(forgotten.since(), None, "or nobody else could write");
        assert!(!forgotten.may_have(b"b;since=7", 8));
    }
}
