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
//! `event: gone` with `{"error","oldest"}`, and the end: it reads the keys anew and watches on from there.
//!
//! Each watcher is a task that looks at the machine's changes a page at a time, when the one before has been taken. So a slow
//! watcher costs the node one page. Who closes the connection, or his half of it, has left, and his place is free at once.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::{Accounted, Inner};
use super::reply::{Body, BrokenOff, Parameters, Refusal, Reply};
use crate::defaults::{CLIENT_STALL, LARGE_ANSWER, MAX_WATCHERS, WATCH_KEEP_ALIVE, WATCH_PAGE};
use crate::kv::changes::{Change, Gone};
use crate::kv::raft_kv::{Answer, Query};
use crate::net::driver::Stopped;
use crate::wire::sse;

/// What all watchers of a node share.
#[derive(Debug)]
pub(super) struct Watchers {
    announced: watch::Receiver<u64>,
    over: CancellationToken,
    slots: Arc<Semaphore>,
}

impl Watchers {
    /// Watchers that may tell changes up to the version in `announced`, until `over`.
    pub(super) fn new(announced: watch::Receiver<u64>, over: CancellationToken) -> Self {
        Self { announced, over, slots: Arc::new(Semaphore::new(MAX_WATCHERS)) }
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
        None => match api.read(Query::Version, &parameters).await? {
            Answer::Version(version) => version,
            other => return Err(Refusal::of(&other)),
        },
    };
    // A version of the future is of another cluster, or of this one before a restore: to wait for it would hide all until then.
    if after > *api.watchers.announced.borrow() {
        match api.read(Query::Version, &parameters).await? {
            Answer::Version(latest) if after > latest => {
                let message =
                    format!("version {after} is still to come, the latest is {latest}: list the keys and watch anew");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
            }
            Answer::Version(_) => {}
            other => return Err(Refusal::of(&other)),
        }
    }
    let (parts, body) = mpsc::channel(1);
    let prefix = Bytes::from(parameters.get("prefix").unwrap_or_default().to_owned());
    let watcher = Watcher {
        announced: api.watchers.announced.clone(),
        over: api.watchers.over.clone(),
        api: Arc::clone(api),
        prefix,
        after,
        parts,
        _slot: slot,
    };
    tokio::spawn(watcher.run());
    let mut reply = Response::new(Body::Events(body));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// One stream of changes.
struct Watcher {
    api: Arc<Inner>,
    announced: watch::Receiver<u64>,
    over: CancellationToken,
    prefix: Bytes,
    /// Told, or looked at, up to this version.
    after: u64,
    parts: mpsc::Sender<Result<Bytes, BrokenOff>>,
    _slot: OwnedSemaphorePermit,
}

/// The client is gone, or takes nothing.
struct Cut;

impl Watcher {
    async fn run(mut self) {
        let over = self.over.clone();
        let _ = over.run_until_cancelled(self.tell()).await;
    }

    async fn tell(&mut self) -> Result<(), Cut> {
        self.sign_of_life().await?;
        let mut told = self.after;
        loop {
            let through = *self.announced.borrow_and_update();
            while self.after < through {
                let Some(page) = self.next_page(through).await? else { return Ok(()) };
                if let Some(last) = page.last() {
                    told = last.version;
                    self.send(events(&page)).await?;
                }
            }
            let news = tokio::select! {
                news = timeout(WATCH_KEEP_ALIVE, self.announced.changed()) => news,
                () = self.parts.closed() => return Err(Cut),
            };
            match news {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()), // the node has stopped
                Err(_) if told < self.after => {
                    told = self.after;
                    self.sign_of_life().await?;
                }
                Err(_) => self.send(Bytes::from_static(sse::COMMENT)).await?,
            }
        }
    }

    /// Changes up to `through`, which may be none of this prefix; None when they are not kept any more.
    async fn next_page(&mut self, through: u64) -> Result<Option<Vec<Change>>, Cut> {
        let (after, prefix) = (self.after, self.prefix.clone());
        let look = self.api.node.inspect(move |machine| machine.changes().since(after, through, &prefix, WATCH_PAGE));
        match look.await.map_err(|_| Cut)? {
            Ok((page, looked)) => {
                self.after = looked;
                Ok(Some(page))
            }
            Err(gone @ Gone { oldest }) => {
                #[derive(Serialize)]
                struct Data {
                    error: String,
                    oldest: u64,
                }
                let mut out = BytesMut::new();
                sse::put(&mut out, None, "gone", &Data { error: gone.to_string(), oldest });
                self.send(out.freeze()).await?;
                Ok(None)
            }
        }
    }

    /// Tells how far it is.
    async fn sign_of_life(&mut self) -> Result<(), Cut> {
        let mut out = BytesMut::new();
        sse::put_id(&mut out, self.after);
        self.send(out.freeze()).await
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), Cut> {
        let send = async {
            let bytes = if bytes.len() > LARGE_ANSWER {
                let memory = Arc::clone(&self.api.answer_memory).acquire_many_owned(bytes.len() as u32);
                Bytes::from_owner(Accounted { bytes, _permit: memory.await.map_err(|_| Cut)? })
            } else {
                bytes
            };
            self.parts.send(Ok(bytes)).await.map_err(|_| Cut)
        };
        timeout(CLIENT_STALL, send).await.unwrap_or(Err(Cut))
    }
}

#[derive(Serialize)]
struct Data<'a> {
    key: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    version: u64,
}

fn events(changes: &[Change]) -> Bytes {
    let mut out = BytesMut::new();
    for Change { version, key, value } in changes {
        let name = if value.is_some() { "set" } else { "delete" };
        let value = value.as_ref().map(|value| String::from_utf8_lossy(value));
        let data = Data { key: String::from_utf8_lossy(key), value, version: *version };
        sse::put(&mut out, Some(*version), name, &data);
    }
    out.freeze()
}
