//! What nodes with a data directory tell each other of themselves, as headers of an [upgrade](super::upgrade).
//!
//! ```text
//! netbelt-cluster: 9f..     the cluster it belongs to, once it is known
//! netbelt-incarnation: 3c.. its data directory
//! netbelt-starts: 2 5e..,c1..   what became of that, see net::identity::boot_history
//! netbelt-state: begun      or new: it has no data, see founding
//! netbelt-knows: 70.. 17    by which directory and which of its starts it knows the node it dials, if it does
//! netbelt-start: 9 d4..     the start of its own that it was asked for
//! ```
//!
//! Older versions have neither `state` nor `knows` nor `start`.

use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::upgrade::Version;
use crate::net::identity::known_peers::Hello;

const CLUSTER: HeaderName = HeaderName::from_static("netbelt-cluster");
const INCARNATION: HeaderName = HeaderName::from_static("netbelt-incarnation");
const STARTS: HeaderName = HeaderName::from_static("netbelt-starts");
const START: HeaderName = HeaderName::from_static("netbelt-start");
const STATE: HeaderName = HeaderName::from_static("netbelt-state");
const KNOWS: HeaderName = HeaderName::from_static("netbelt-knows");
const NEW: &str = "new";
const BEGUN: &str = "begun";

/// Says who a node is, and which netbelt it runs.
pub(super) fn introduce(hello: &Hello, headers: &mut HeaderMap) {
    let value = |text: String| HeaderValue::try_from(text).expect("digits are a header's value");
    headers.insert(INCARNATION, value(hello.incarnation.to_string()));
    headers.insert(STARTS, value(hello.starts.to_string()));
    Version::put_own(headers);
    let state = hello.has_begun.map(|has_begun| if has_begun { BEGUN } else { NEW }.to_owned());
    let optional = [
        (CLUSTER, hello.cluster.map(|cluster| cluster.to_string())),
        (STATE, state),
        (KNOWS, hello.knows.map(|known| known.to_string())),
        (START, hello.proof.map(|start| start.to_string())),
    ];
    for (name, text) in optional {
        text.map(|text| headers.insert(name, value(text)));
    }
}

/// Nothing, where it says nothing that can be understood.
pub(super) fn hello_in(headers: &HeaderMap) -> Option<Hello> {
    fn read<T: FromStr>(value: &HeaderValue) -> Option<T> {
        value.to_str().ok()?.parse().ok()
    }
    /// The outer one is None where it cannot be understood.
    fn optional<T: FromStr>(headers: &HeaderMap, name: HeaderName) -> Option<Option<T>> {
        headers.get(name).map_or(Some(None), |value| read(value).map(Some))
    }
    let has_begun = match headers.get(STATE).map(HeaderValue::as_bytes) {
        None => None,
        Some(state) if state == BEGUN.as_bytes() => Some(true),
        Some(state) if state == NEW.as_bytes() => Some(false),
        Some(_) => return None,
    };
    Some(Hello {
        cluster: optional(headers, CLUSTER)?,
        incarnation: read(headers.get(INCARNATION)?)?,
        starts: read(headers.get(STARTS)?)?,
        proof: optional(headers, START)?,
        has_begun,
        knows: optional(headers, KNOWS)?,
    })
}
