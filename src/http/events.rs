//! A stream of server-sent events as an answer, and where one that broke off goes on (WHATWG HTML, "Server-sent events").

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::hangup::StreamSlot;
use super::reply::{Body, BrokenOff, Refusal, Reply};
use crate::wire::sse;

/// Whether it comes back after it was told that what it missed is gone: a browser does, with this as the last event's id.
pub(super) fn was_told_gone(headers: &HeaderMap) -> bool {
    headers.get(sse::LAST_EVENT_ID).is_some_and(|id| id == sse::GONE)
}

/// The answer that keeps a browser from coming again.
pub(super) fn enough() -> Reply {
    let mut enough = Response::new(Body::from(Bytes::new()));
    *enough.status_mut() = StatusCode::NO_CONTENT;
    enough
}

/// The version after which a stream goes on: what the header `Last-Event-ID` says, or else the parameter `after`.
pub(super) fn resume_after(headers: &HeaderMap, after: Option<&str>) -> Result<Option<u64>, Refusal> {
    let resume = match (headers.get(sse::LAST_EVENT_ID).map(HeaderValue::to_str), after) {
        (Some(Ok(id)), _) => Some(id),
        (Some(Err(_)), _) => Some("what is no text"),
        (None, after) => after,
    };
    resume
        .map(str::parse)
        .transpose()
        .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "after and Last-Event-ID take a version, such as 42"))
}

/// Events as they come; the connection holds that slot.
pub(super) fn reply(events: mpsc::Receiver<Result<Bytes, BrokenOff>>, slot: StreamSlot) -> Reply {
    let mut reply = Response::new(Body::Events(events));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply.extensions_mut().insert(Arc::new(slot));
    reply
}
