//! A view: the state as it was at one moment, read a chunk at a time while the state goes on changing.
//!
//! Nothing is copied when a view is opened but the sessions, and the youngest of the forgotten names. From then on, whoever changes a key first keeps its old
//! value in every view whose reading has not come that far (copy on write). So a view holds what has changed under it,
//! and at most the state as it was.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};

use super::command::Versioned;
use super::sessions::Sessions;
use super::snapshot::{put_client, put_header, put_item};
use super::store::Store;
use crate::defaults::CHUNK_BYTES;

/// Names an open view of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u64);

/// An open view.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Header, clients and forgotten names, in chunks.
    head: VecDeque<Bytes>,
    place: Place,
    /// Keys after the place that have changed since, with what they held.
    kept: BTreeMap<Bytes, Option<Versioned>>,
}

/// How far the keys have been read.
#[derive(Clone, Debug)]
enum Place {
    Start,
    After(Bytes),
    End,
}

impl View {
    /// A view of what `store`, `sessions` and `cluster` are now.
    pub(super) fn open(store: &Store, sessions: &Sessions, cluster: Option<u64>) -> Self {
        let none = Sessions::default();
        let sessions = if cfg!(mutant = "snapshot_forgets_sessions") { &none } else { sessions };
        let (mut head, mut chunk) = (VecDeque::new(), BytesMut::new());
        put_header(&mut chunk, store, sessions, cluster);
        for (name, client) in sessions.by_age() {
            if chunk.len() >= CHUNK_BYTES {
                head.push_back(chunk.split().freeze());
            }
            put_client(&mut chunk, name, client);
        }
        head.push_back(chunk.split().freeze());
        if let Some(forgotten) = sessions.forgotten() {
            let (sealed, young) = forgotten.fingerprints();
            for generation in sealed {
                let starts = (0..generation.len()).step_by(CHUNK_BYTES);
                head.extend(starts.map(|start| generation.slice(start..generation.len().min(start + CHUNK_BYTES))));
            }
            for fingerprint in young {
                if chunk.len() >= CHUNK_BYTES {
                    head.push_back(chunk.split().freeze());
                }
                chunk.put_u64(fingerprint);
            }
            head.extend(Some(chunk.freeze()).filter(|chunk| !chunk.is_empty()));
        }
        Self { head, place: Place::Start, kept: BTreeMap::new() }
    }

    /// `key` is about to change in `store`.
    pub(super) fn keep(&mut self, key: &[u8], store: &Store) {
        let is_ahead = match &self.place {
            Place::Start => true,
            Place::After(last) => key > last,
            Place::End => false,
        };
        if is_ahead && !self.kept.contains_key(key) {
            self.kept.insert(Bytes::copy_from_slice(key), store.get(key).cloned());
        }
    }

    /// The next chunk; None at the end.
    pub(super) fn next_chunk(&mut self, store: &Store) -> Option<Bytes> {
        if let Some(chunk) = self.head.pop_front() {
            return Some(chunk);
        }
        let after = match &self.place {
            Place::Start => None,
            Place::After(last) => Some(last.clone()),
            Place::End => return None,
        };
        let mut live = store.after(after.as_deref()).peekable();
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let mut last = Cow::default();
        while chunk.len() < CHUNK_BYTES {
            let changed_first = match (self.kept.first_key_value(), live.peek()) {
                (Some((changed, _)), Some((key, _))) => changed <= key,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => {
                    self.place = Place::End;
                    return if chunk.is_empty() { None } else { Some(chunk.freeze()) };
                }
            };
            if !changed_first {
                let (key, versioned) = live.next().expect("it has been peeked at");
                put_item(&mut chunk, key, versioned);
                last = Cow::Borrowed(&key[..]);
            } else if let Some((key, old)) = self.kept.pop_first() {
                live.next_if(|(live, _)| **live == key);
                if let Some(versioned) = old {
                    put_item(&mut chunk, &key, &versioned);
                }
                last = Cow::Owned(key.to_vec());
            }
        }
        self.place = Place::After(Bytes::copy_from_slice(&last));
        Some(chunk.freeze())
    }
}
