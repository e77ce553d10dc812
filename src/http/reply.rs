//! What is answered: whole or as a stream, good or a refusal.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

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

    /// There is no room for it now.
    pub(super) fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded").retry_after(1)
    }

    /// It may have been done, or not.
    pub(super) fn outcome_unknown() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome unknown")
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
