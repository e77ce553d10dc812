//! What is answered of keys and values.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{ETAG, HeaderValue};
use serde::Serialize;

use crate::http::memory::Memory;
use crate::http::reply::{Reply, error, json};
use crate::kv::command::{Outcome, Versioned};
use crate::kv::store::Page;

/// A key with its value; the version is its entity tag, for `If-Match`.
pub(in crate::http) fn item(key: &Bytes, value: &Bytes, version: u64) -> Reply {
    let mut reply = json(StatusCode::OK, &Item::new(key, value, version));
    let tag = HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes");
    reply.headers_mut().insert(ETAG, tag);
    reply
}

/// A page of keys with their values.
pub(in crate::http) fn listing(Page { items, more }: &Page) -> Reply {
    let next = if *more { items.last().map(|(key, _)| text(key)) } else { None };
    let items = items.iter().map(|(key, versioned)| Item::new(key, &versioned.value, versioned.version));
    json(StatusCode::OK, &Listing { items: items.collect(), more: *more, next })
}

/// There is no such key.
pub(in crate::http) fn not_found(key: &Bytes) -> Reply {
    json(StatusCode::NOT_FOUND, &KeyError { error: "key not found", key: text(key) })
}

/// There is no such key now; before there was, or was not.
pub(in crate::http) fn deleted(key: &Bytes, existed: bool) -> Reply {
    json(StatusCode::OK, &Deleted { key: text(key), deleted: existed })
}

/// The answer to a write that changed nothing.
pub(in crate::http) fn not_written(memory: &Memory, key: &Bytes, outcome: &Outcome) -> Reply {
    let condition_failed = |current: Option<&Versioned>, omitted: bool, earlier| {
        let body = ConditionFailed {
            error: "condition failed",
            key: text(key),
            value: current.filter(|_| !omitted).map(|current| text(&current.value)),
            version: current.map(|current| current.version),
            omitted,
            earlier,
        };
        json(StatusCode::PRECONDITION_FAILED, &body)
    };
    match outcome {
        Outcome::ConditionFailed { current } => {
            let told = memory.with_room(condition_failed(current.as_ref(), false, false));
            told.unwrap_or_else(|| condition_failed(current.as_ref(), true, false))
        }
        Outcome::FailedEarlier => condition_failed(None, false, true),
        Outcome::Forgotten => error(
            StatusCode::CONFLICT,
            "what became of this Idempotency-Key is not remembered any more, and the request is not carried out now; whether \
             it was before is unknown: look, before you write again under the next number (numbers must rise, and only the \
             latest few may be sent again)",
        ),
        Outcome::NameForgotten => error(
            StatusCode::CONFLICT,
            "the name in this Idempotency-Key was forgotten, and the request is not carried out now; whether it was before is \
             unknown: look, before you write again under a new name",
        ),
        Outcome::NameTaken => error(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this Idempotency-Key was used for another request: take the next number",
        ),
        Outcome::Set { .. } | Outcome::Deleted { .. } | Outcome::ClusterInitialized { .. } => {
            unreachable!("each kind of command has its kind of outcome")
        }
    }
}

#[derive(Serialize)]
struct Item<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
    version: u64,
}

impl<'a> Item<'a> {
    fn new(key: &'a Bytes, value: &'a Bytes, version: u64) -> Self {
        Self { key: text(key), value: text(value), version }
    }
}

#[derive(Serialize)]
struct Deleted<'a> {
    key: Cow<'a, str>,
    deleted: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    items: Vec<Item<'a>>,
    more: bool,
    /// What to give as `after` for the next page.
    next: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct KeyError<'a> {
    error: &'a str,
    key: Cow<'a, str>,
}

#[derive(Serialize)]
struct ConditionFailed<'a> {
    error: &'a str,
    key: Cow<'a, str>,
    value: Option<Cow<'a, str>>,
    version: Option<u64>,
    /// There is a value, and this node has no room to tell it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    omitted: bool,
    /// The request was sent again; it failed when it first came, and what the key held then is not known any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    earlier: bool,
}

/// Keys and values come as JSON strings, so they are UTF-8.
fn text(bytes: &Bytes) -> Cow<'_, str> {
    // Looks at many bytes at a time, unlike the lossy conversion.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
