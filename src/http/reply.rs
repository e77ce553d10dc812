//! What is answered: whole or as a stream, good or a refusal; and the parameters of a request.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::mpsc;

use super::members;
use crate::defaults::{MAX_REQUEST_TIMEOUT, REQUEST_TIMEOUT};
use crate::kv::raft_kv::Answer;
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
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8().map(|value| Cow::Owned(value.into_owned()));
            let value = value.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, &format!("{name} is not UTF-8")))?;
            parameters.push((*name, value));
        }
        Ok(Self(parameters))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    pub(super) fn timeout(&self) -> Result<Duration, Refusal> {
        let Some(text) = self.get("timeout") else { return Ok(REQUEST_TIMEOUT) };
        match humantime::parse_duration(text) {
            Ok(timeout) if timeout <= MAX_REQUEST_TIMEOUT && !timeout.is_zero() => Ok(timeout),
            Ok(_) | Err(_) => {
                let message = format!("timeout must be a duration such as 500ms, at most {MAX_REQUEST_TIMEOUT:?}");
                Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
            }
        }
    }
}

/// An answer that is an error.
pub(super) struct Refusal(Box<Reply>);

impl Refusal {
    pub(super) fn new(code: StatusCode, message: &str) -> Self {
        Self(Box::new(error(code, message)))
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        let mut refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        refusal.0.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        refusal
    }

    pub(super) fn of(answer: &Answer) -> Self {
        match answer {
            Answer::NoLeader => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no leader").retry_after(1),
            Answer::Overloaded => Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded").retry_after(1),
            Answer::ViewClosed => Self::new(StatusCode::GONE, "the view was not read in time and has been closed"),
            Answer::OutcomeUnknown => Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome unknown"),
            Answer::Refused(why) => members::refused(*why),
            Answer::Done
            | Answer::Written(_)
            | Answer::Value(_)
            | Answer::Page(_)
            | Answer::Version(_)
            | Answer::View { .. }
            | Answer::Chunk(_) => {
                unreachable!("each kind of request has its kind of answer")
            }
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
