//! What is answered: whole or as a stream, good or a refusal; and the parameters of a request.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::members;
use crate::defaults::{MAX_REQUEST_TIMEOUT, MIN_REQUEST_TIMEOUT, REQUEST_TIMEOUT};
use crate::kv::raft_kv::RequestError;
use crate::net::driver::Stopped;

/// What a handler answers.
pub type Reply = Response<Body>;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Full<Bytes>),
    /// Parts as they come, until there are no more. An error breaks the connection off, so that the client can tell.
    Stream(mpsc::Receiver<Result<Bytes, BrokenOff>>),
    /// The same, with silence between them for as long as it takes. It breaks off when the client closes its half.
    Events(mpsc::Receiver<Result<Bytes, BrokenOff>>),
}

/// A stream that did not come to its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer was broken off")]
pub struct BrokenOff;

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(full) => {
                Pin::new(full).poll_frame(context).map_err(|impossible: Infallible| match impossible {})
            }
            Self::Stream(parts) | Self::Events(parts) => {
                parts.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(full) => full.is_end_stream(),
            Self::Stream(_) | Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(full) => full.size_hint(),
            Self::Stream(_) | Self::Events(_) => SizeHint::default(),
        }
    }
}

/// The parameters behind the `?`, decoded.
pub(super) struct Parameters<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    pub(super) fn parse(query: Option<&'a str>, known: &[&'a str]) -> Result<Self, Refusal> {
        let mut parameters = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                let message = format!("unknown parameter {name:?}: this request takes {}", known.join(", "));
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
            };
            if parameters.iter().any(|(given, _)| given == name) {
                let message = format!("{name} is given twice: which one counts nobody can tell");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
            }
            let value = decoded(name, &value.replace('+', " "))?.into_owned();
            parameters.push((*name, Cow::Owned(value)));
        }
        Ok(Self(parameters))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    pub(super) fn timeout(&self) -> Result<Duration, Refusal> {
        let Some(text) = self.get("timeout") else { return Ok(REQUEST_TIMEOUT) };
        match humantime::parse_duration(text) {
            Ok(timeout) if (MIN_REQUEST_TIMEOUT..=MAX_REQUEST_TIMEOUT).contains(&timeout) => Ok(timeout),
            Ok(_) | Err(_) => {
                let message = format!(
                    "timeout must be a duration such as 500ms, at least {MIN_REQUEST_TIMEOUT:?} and at most {MAX_REQUEST_TIMEOUT:?}"
                );
                Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
            }
        }
    }
}

/// Text that was percent-encoded to stand in a path or a query; `what` it is.
pub(super) fn decoded<'a>(what: &str, encoded: &'a str) -> Result<Cow<'a, str>, Refusal> {
    let refuse = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, &format!("{what} {why}"));
    let is_byte = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if let Some((at, _)) = encoded.match_indices('%').find(|(at, _)| !is_byte(&encoded[at + 1..])) {
        let wrong: String = encoded[at..].chars().take(3).collect();
        return Err(refuse(&format!("has {wrong:?}, which encodes no byte: a percent sign itself is %25")));
    }
    percent_decode_str(encoded).decode_utf8().map_err(|_| refuse("is not UTF-8"))
}

/// What is said in JSON, in an object.
pub(super) fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let refuse = |why: &dyn Display| Refusal::new(StatusCode::BAD_REQUEST, &format!("bad JSON: {why}"));
    // An array of the values in their order would do, too, for serde.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(refuse(&"an array, where an object with names is wanted"));
    }
    serde_json::from_slice(body).map_err(|error| refuse(&error))
}

/// An answer that is an error.
pub(super) struct Refusal(Box<Reply>);

impl Refusal {
    pub(super) fn new(code: StatusCode, message: &str) -> Self {
        Self(Box::new(error(code, message)))
    }

    /// Another method than `allowed`, with which this and that can be done.
    pub(super) fn method(allowed: &'static str, does: &str) -> Self {
        let message = format!("method not allowed: {does}");
        let mut refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, &message);
        refusal.0.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        refusal
    }

    pub(super) fn of(error: RequestError) -> Self {
        let refused = |code| Self::new(code, &error.to_string());
        match error {
            RequestError::NoLeader | RequestError::TooLate | RequestError::Overloaded => {
                refused(StatusCode::SERVICE_UNAVAILABLE).retry_after(1)
            }
            RequestError::ViewClosed => refused(StatusCode::GONE),
            RequestError::OutcomeUnknown => refused(StatusCode::GATEWAY_TIMEOUT),
            RequestError::Refused(why) => members::refused(why),
        }
    }

    pub(super) fn retry_after(mut self, seconds: u16) -> Self {
        self.0.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        self
    }

    pub(super) fn into_reply(self) -> Reply {
        *self.0
    }
}

impl From<Stopped> for Refusal {
    fn from(_: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping").retry_after(1)
    }
}

/// `{"error": message}` with this status.
pub(super) fn error(code: StatusCode, message: &str) -> Reply {
    json(code, &serde_json::json!({ "error": message }))
}

/// Room for the answers that are usual, so that memory is taken once.
const USUAL_ANSWER: usize = 512;

pub(super) fn json(code: StatusCode, body: &impl Serialize) -> Reply {
    let mut bytes = Vec::with_capacity(USUAL_ANSWER);
    serde_json::to_writer(&mut bytes, body).expect("answers have string keys");
    bytes.push(b'\n');
    let mut reply = Response::new(Body::from(Bytes::from(bytes)));
    *reply.status_mut() = code;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
