//! `GET /watch`: changes as they come, as server-sent events (WHATWG HTML, "Server-sent events").
//!
//! ```text
//! GET /watch?prefix=user/&after=41
//!
//! id: 41
//!
//! id: 42
//! event: set
//! data: {"key":"user/7","value":"ada","version":42}
//!
//! id: 44
//! event: delete
//! data: {"key":"user/7","version":44}
//! ```
//!
//! A change is told once it is committed, applied and durable here, in the order of versions, each once. Without `after` and
//! without the header `Last-Event-ID` (which wins), the stream begins after every write that was acknowledged before it
//! was asked for. Versions are the same on all nodes: whoever loses its stream goes on at any node after the last id it
//! has seen; ids without an event move it along while other keys change.
//!
//! A node keeps the latest changes only. Who asks for older ones, or takes so little that it falls behind them, gets
//! `event: gone` with `{"error","oldest"}`, and the end: it reads the keys anew and watches on from there. Behind that comes
//! `id: gone`: a browser's EventSource connects anew whenever a stream ends, with the last id, and to this one the answer is 204,
//! which stops it for good. Who falls behind in the middle of a large event is broken off, and hears of it when it comes again.
//!
//! Telling costs at most an eighth of the node's time (`http::teller`), and a watcher's memory is bounded whatever it does:
//! three pages, and what [`WATCH_SEND_BUFFER`](crate::defaults::WATCH_SEND_BUFFER) lets the kernel keep. Its place is taken until
//! its connection is gone. Who closes the connection, or his half of it, has left, and his place is free at once.

use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::api::Inner;
use super::attentive::Place;
use super::pages::Cursor;
use super::reply::{Body, Parameters, Refusal, Reply};
use super::teller::{self, Spent, Watcher};
use crate::defaults::MAX_WATCHERS;
use crate::kv::raft_kv::{Query, RaftKv};
use crate::net::driver::{Handle, Stopped};
use crate::wire::sse;

/// What all watchers of a node share.
#[derive(Debug)]
pub(super) struct Watchers {
    announced: watch::Receiver<u64>,
    over: CancellationToken,
    slots: Arc<Semaphore>,
    joining: mpsc::Sender<Watcher>,
    spent: Spent,
}

impl Watchers {
    /// Watchers that are told changes of `node` up to the version in `announced`, until `over`.
    pub(super) fn new(node: Handle<RaftKv>, announced: watch::Receiver<u64>, over: CancellationToken) -> Self {
        let (joining, joined) = mpsc::channel(MAX_WATCHERS);
        let spent = Spent::default();
        let tell = teller::run(node, joined, announced.clone(), spent.clone());
        let end = over.clone();
        tokio::spawn(async move { end.run_until_cancelled(tell).await });
        Self { announced, over, slots: Arc::new(Semaphore::new(MAX_WATCHERS)), joining, spent }
    }
}

/// Answers `GET /watch`.
pub(super) async fn start(api: &Arc<Inner>, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["prefix", "after", "timeout"])?;
    if api.watchers.over.is_cancelled() {
        return Err(Stopped.into());
    }
    let slot = Arc::clone(&api.watchers.slots).try_acquire_owned();
    let slot = slot.map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many watchers").retry_after(5))?;
    let last_seen = request.headers().get(sse::LAST_EVENT_ID);
    if last_seen.is_some_and(|id| id == sse::GONE) {
        let mut enough = Response::new(Body::from(Bytes::new()));
        *enough.status_mut() = StatusCode::NO_CONTENT;
        return Ok(enough);
    }
    let resume = match (last_seen.map(HeaderValue::to_str), parameters.get("after")) {
        (Some(Ok(id)), _) => Some(id),
        (Some(Err(_)), _) => Some("what is no text"),
        (None, after) => after,
    };
    let after = match resume.map(str::parse) {
        Some(Ok(version)) => version,
        Some(Err(_)) => {
            let message = "after and Last-Event-ID take a version, such as 42";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, message));
        }
        None => api.read(Query::Version, &parameters).await?.map_err(Refusal::of)?,
    };
    // A version of the future is of another cluster, or of this one before a restore: to wait for it would hide all until then.
    if after > *api.watchers.announced.borrow() {
        let latest: u64 = api.read(Query::Version, &parameters).await?.map_err(Refusal::of)?;
        if after > latest {
            let message =
                format!("version {after} is still to come, the latest is {latest}: list the keys and watch anew");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
        }
    }
    let (parts, body) = mpsc::channel(1);
    let prefix = Bytes::from(parameters.get("prefix").unwrap_or_default().to_owned());
    let cut = CancellationToken::new();
    let watcher = Watcher { prefix, at: Cursor::after(after), parts, cut: cut.clone() };
    api.watchers.joining.send(watcher).await.map_err(|_| Stopped)?;
    let mut reply = Response::new(Body::Events(body));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    reply.extensions_mut().insert(Arc::new(Place::new(cut, api.watchers.spent.clone(), slot)));
    Ok(reply)
}
