//! What those who watch are sent at a time: a page of events, encoded once for all who are at the same place.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::defaults::{WATCH_BLOCK, WATCH_LOOK, WATCH_PAGE_BYTES, WATCH_PAGES_BYTES};
use crate::kv::changes::{Change, Changes, Gone};
use crate::wire::sse;

/// How far somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    /// All changes up to this version are told, or are none of his.
    pub(super) after: u64,
    /// So many bytes of the next one's value, which is a large one.
    pub(super) inside: usize,
}

impl Cursor {
    /// Between two changes.
    pub(super) const fn after(version: u64) -> Self {
        Self { after: version, inside: 0 }
    }
}

/// Some events, or a piece of a large one.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// At most [`WATCH_PAGE_BYTES`]; none, when no change up to `end` has the prefix.
    pub(super) bytes: Bytes,
    /// Where the next one begins.
    pub(super) end: Cursor,
}

impl Page {
    /// The next of the changes up to version `through` whose keys begin with `prefix`.
    fn of(changes: &Changes, through: u64, prefix: &[u8], from: Cursor) -> Result<Self, Gone> {
        let (mut out, mut end) = (BytesMut::new(), from);
        for change in changes.after(from.after)?.take(WATCH_LOOK).take_while(|change| change.version <= through) {
            if change.key.starts_with(prefix) {
                let told = out.len();
                let is_small = end.inside == 0 && change.size() <= WATCH_PAGE_BYTES;
                if is_small {
                    put(&mut out, change);
                }
                if !is_small || out.len() > WATCH_PAGE_BYTES {
                    out.truncate(told);
                    if told == 0 {
                        end = put_piece(&mut out, change, end);
                    }
                    break;
                }
            }
            end = Cursor::after(change.version);
            // So those who began at different places have the same pages soon.
            if !out.is_empty() && change.version % WATCH_BLOCK == 0 {
                break;
            }
        }
        Ok(Self { bytes: out.freeze(), end })
    }
}

/// The latest pages, by prefix and beginning, up to [`WATCH_PAGES_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: BTreeMap<(Cursor, Bytes), Page>,
    oldest_first: VecDeque<(Cursor, Bytes)>,
    bytes: usize,
}

impl Pages {
    /// The next page; kept for others when it is `shared`.
    pub(super) fn next(
        &mut self,
        changes: &Changes,
        through: u64,
        prefix: &Bytes,
        from: Cursor,
        shared: bool,
    ) -> Result<Page, Gone> {
        if !shared {
            return Page::of(changes, through, prefix, from);
        }
        let place = (from, prefix.clone());
        if let Some(page) = self.pages.get(&place) {
            return Ok(page.clone());
        }
        let page = Page::of(changes, through, prefix, from)?;
        if !page.bytes.is_empty() {
            self.bytes += page.bytes.len();
            self.oldest_first.push_back(place.clone());
            self.pages.insert(place, page.clone());
            while self.bytes > WATCH_PAGES_BYTES
                && let Some(oldest) = self.oldest_first.pop_front().and_then(|place| self.pages.remove(&place))
            {
                self.bytes -= oldest.bytes.len();
            }
        }
        Ok(page)
    }
}

#[derive(Serialize)]
struct Data<'a> {
    key: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    version: u64,
}

fn put(out: &mut BytesMut, Change { version, key, value }: &Change) {
    let name = if value.is_some() { "set" } else { "delete" };
    let value = value.as_ref().map(|value| String::from_utf8_lossy(value));
    sse::put(out, Some(*version), name, &Data { key: String::from_utf8_lossy(key), value, version: *version });
}

/// Of a value, so much is encoded at a time: JSON writes a byte as six at most.
const STEP: usize = 1 << 10;

/// Appends the next piece of an event that is larger than a page; says where it ends.
fn put_piece(out: &mut BytesMut, change: &Change, mut at: Cursor) -> Cursor {
    let value = change.value.as_deref().unwrap_or_default();
    if at.inside == 0 {
        let key = serde_json::to_string(&String::from_utf8_lossy(&change.key)).expect("a string");
        out.put_slice(format!("id: {}\nevent: set\ndata: {{\"key\":{key},\"value\":\"", change.version).as_bytes());
    }
    while at.inside < value.len() {
        if out.len() + 6 * STEP > WATCH_PAGE_BYTES {
            return at;
        }
        let mut end = value.len().min(at.inside + STEP);
        // Not within a character, which has four bytes at most.
        for _ in 0..3 {
            end -= usize::from(value.get(end).is_some_and(|byte| byte & 0xc0 == 0x80));
        }
        let text = serde_json::to_string(&String::from_utf8_lossy(&value[at.inside..end])).expect("a string");
        out.put_slice(&text.as_bytes()[1..text.len() - 1]); // without its quotes
        at.inside = end;
    }
    out.put_slice(format!("\",\"version\":{}}}\n\n", change.version).as_bytes());
    Cursor::after(change.version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::sse::Parser;

    fn changes_of(all: &[(String, Option<String>)]) -> Changes {
        let mut changes = Changes::default();
        for (version, (key, value)) in (1..).zip(all) {
            let value = value.as_ref().map(|value| Bytes::from(value.clone()));
            changes.push(Change { version, key: Bytes::from(key.clone()), value });
        }
        changes
    }

    fn value() -> impl Strategy<Value = String> {
        let text = prop_oneof![Just("\0"), Just("é"), Just("🦀"), Just("\u{7ff}"), Just("\""), Just("a")];
        (proptest::collection::vec(text, 0..7), 0usize..6000).prop_map(|(part, times)| part.concat().repeat(times))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pages_hold_each_change_of_the_prefix_once_and_are_bounded(
            all in proptest::collection::vec(("[ab]{1,2}", proptest::option::of(value())), 1..12),
            from in 0u64..12,
            shared: bool,
        ) {
            let (changes, prefix) = (changes_of(&all), Bytes::from_static(b"a"));
            let through = changes.latest() - changes.latest().min(1);
            let (mut pages, mut at, mut parser) = (Pages::default(), Cursor::after(from.min(through)), Parser::new(1 << 20));
            let mut told = Vec::new();
            while at.after < through {
                let page = pages.next(&changes, through, &prefix, at, shared).unwrap();
                prop_assert!(page.bytes.len() <= WATCH_PAGE_BYTES && at < page.end);
                at = page.end;
                parser.push(&page.bytes);
                while let Some(message) = parser.next_message().unwrap() {
                    told.push((message.id.unwrap(), message.data));
                }
            }
            let expected: Vec<_> = (1u64..)
                .zip(&all)
                .filter(|(version, (key, _))| *version > from && *version <= through && key.starts_with('a'))
                .map(|(version, (key, value))| {
                    let data = Data { key: key.into(), value: value.as_ref().map(Cow::from), version };
                    (version, serde_json::to_string(&data).unwrap())
                })
                .collect();
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn those_who_begin_at_different_places_soon_share_their_pages() {
        let all: Vec<_> = (0..1000).map(|number| (format!("k{number}"), Some("v".to_owned()))).collect();
        let (changes, prefix, mut pages) = (changes_of(&all), Bytes::new(), Pages::default());
        let mut places_from = |after| {
            let (mut at, mut places) = (Cursor::after(after), Vec::new());
            while at.after < 1000 {
                at = pages.next(&changes, 1000, &prefix, at, true).unwrap().end;
                places.push(at);
            }
            places.retain(|at| at.after >= WATCH_BLOCK);
            places
        };
        let places = places_from(3);
        assert!(places.len() > 3 && [40, 77, 255].map(&mut places_from).iter().all(|others| *others == places));
        let [first, second] = [(); 2].map(|()| pages.next(&changes, 1000, &prefix, places[0], true).unwrap().bytes);
        assert!(!first.is_empty() && std::ptr::eq(first.as_ptr(), second.as_ptr()));
    }
}
