//! The requests of a Raft key-value node.
//!
//! | request | answer |
//! |---|---|
//! | `POST /kv` `{"key","value","if_value"?}` | `{"key","value","version"}` |
//! | `GET /kv/KEY` | `{"key","value","version"}`, or 404 |
//! | `DELETE /kv/KEY` | `{"key","deleted"}` |
//! | `GET /kv?prefix=&after=&limit=` | `{"items":[{"key","value","version"}],"more","next"}` |
//! | `/members`, `/leader` | see [`super::members`] |
//! | `POST /snapshot` | writes a snapshot into this node's log, and forgets the entries it replaces: `{"snapshotIndex"}` |
//! | `GET /snapshot` | a backup, see [`super::backup`] |
//! | `GET /watch?prefix=&after=` | changes as they come, see [`super::watch`] |
//! | `GET /status`, `GET /debug`, `GET /health`, `GET /readyz`, `GET /metrics` | see [`super::status`] |
//! | `GET /livez` | 200 as long as the process answers |
//!
//! `Idempotency-Key: CLIENT:SEQ` names a write, so that it may be sent again, through any node, and is carried out once. A
//! CLIENT that ends in `;since=VERSION` says since which version of the store it has been in use.
//! Conditions of a write are `if_value` in the body, `If-Match: "VERSION"` or `If-None-Match: *`; 412 tells the current
//! value when one fails, or that it is `omitted` for want of `memory`. Errors are `{"error": ...}`: 4xx and 503 say that
//! nothing was done, 504 that nobody knows, and so does 409 of an Idempotency-Key that was forgotten. `?timeout=` says how long to try, `?consistency=stale` reads this node as it is.
//! Pages of other hosts get nothing, see `origin`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::members;
use super::memory::Bodies;
use super::reply::{Body, Parameters, Refusal, Reply, decoded, error, from_json, json};
use super::server::AsyncHandler;
use super::status::{self, NodeInfo};
use super::watch::Watchers;
use super::{backup, origin, upgrade, watch};
use crate::defaults::{
    ANSWER_GRACE, LINK_STANDS, LIST_LIMIT, MAX_ANSWER_MEMORY, MAX_BACKUPS, MAX_CLIENT_BYTES, MAX_KEY_BYTES,
    MAX_LIST_LIMIT, MAX_VALUE_BYTES, REQUEST_TIMEOUT,
};
use crate::kv::command::{self, Condition, Operation, Outcome, SessionId, Versioned};
use crate::kv::raft_kv::{self, Answer, Ask, Event, Query, RaftKv, RequestError, RequestId};
use crate::kv::store::Page;
use crate::net::driver::{Handle, Stopped};
use crate::net::link;
use crate::node_id::NodeId;
use crate::raft::RoleName;

/// The header that names a write, so that it may be sent again.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A node, as its HTTP port sees it.
#[derive(Clone)]
pub struct Api(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) node: Handle<RaftKv>,
    pub(super) info: NodeInfo,
    waiters: Waiters,
    pub(super) watchers: Watchers,
    pub(super) backups: Arc<Semaphore>,
    next_request: AtomicU64,
    pub(super) bodies: Bodies,
    pub(super) answer_memory: Arc<Semaphore>,
    /// The stream on which each peer is heard; a newer one takes its place.
    peer_streams: Mutex<BTreeMap<NodeId, CancellationToken>>,
    pub(super) halted: Halted,
}

/// Why the node works no longer, once it does not: it stays up to say so.
pub type Halted = Arc<OnceLock<String>>;

/// Who waits for the answer to which request. The driver's events go here.
#[derive(Clone, Default)]
pub struct Waiters {
    answers: Arc<Mutex<HashMap<RequestId, Waiter>>>,
    /// The version up to which changes may be told.
    announced: Arc<tokio::sync::watch::Sender<u64>>,
    /// Nothing will be announced any more.
    over: CancellationToken,
}

/// Who waits for an answer, and until when.
struct Waiter {
    answer: oneshot::Sender<Result<Answer, RequestError>>,
    until: Instant,
}

impl Waiters {
    /// Passes an event on to whom it concerns.
    pub fn on_event(&self, event: Event) {
        match event {
            Event::Answered { id, answer } => {
                if let Some(waiter) = self.lock().remove(&id) {
                    drop(waiter.answer.send(answer)); // who asked may be gone
                }
            }
            Event::MembersChanged(_) => {}
            Event::SnapshotRefused { from, why } => {
                tracing::error!(
                    "cannot take the snapshot of {from}: {why}; this node stays behind until it is restarted, or another node leads"
                );
            }
            Event::Changed { through } => drop(self.announced.send_replace(through)),
            Event::RoleChanged { role, term, leader } => match (role, leader) {
                (RoleName::PreCandidate, _) => tracing::info!("asks for pre-votes, still in term {}", term.0),
                (_, Some(leader)) => tracing::info!("{} in term {}, leader {leader}", role.as_str(), term.0),
                (_, None) => tracing::info!("{} in term {}, no leader known", role.as_str(), term.0),
            },
        }
    }

    /// Nobody will be answered any more.
    pub fn give_up(&self) {
        self.lock().clear();
        self.dismiss_watchers();
    }

    /// Those who watch are to go on elsewhere.
    pub fn dismiss_watchers(&self) {
        self.over.cancel();
    }

    /// Answers that wait for the disk may come too late: whoever has waited for one as long as he wanted hears so.
    fn expire(&self) {
        let now = Instant::now();
        self.lock().retain(|_, waiter| now < waiter.until);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, Waiter>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// The API of `node`. `first_request` must be larger than any number of an earlier life of this node.
    pub fn new(node: Handle<RaftKv>, info: NodeInfo, waiters: Waiters, first_request: u64, halted: Halted) -> Self {
        let watchers = Watchers::new(node.clone(), waiters.announced.subscribe(), waiters.over.clone());
        let inner = Arc::new(Inner {
            node,
            info,
            watchers,
            waiters,
            backups: Arc::new(Semaphore::new(MAX_BACKUPS)),
            next_request: AtomicU64::new(first_request),
            bodies: Bodies::default(),
            answer_memory: Arc::new(Semaphore::new(MAX_ANSWER_MEMORY)),
            peer_streams: Mutex::default(),
            halted,
        });
        let of_this = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(inner) = of_this.upgrade() {
                inner.waiters.expire();
                drop(inner);
                tokio::time::sleep(ANSWER_GRACE).await;
            }
        });
        Self(inner)
    }
}

impl AsyncHandler for Api {
    async fn answer(&self, request: Request<Incoming>, on_loopback: bool) -> Reply {
        if let Err(refusal) = origin::check(&request, on_loopback, &self.0.info.addr, &self.0.info.names) {
            return refusal.into_reply();
        }
        // What a write did is not undone by a refusal: only a read is refused when there is no room for its answer.
        let may_refuse = matches!(*request.method(), Method::GET | Method::HEAD);
        let reply = self.0.route(request).await.unwrap_or_else(Refusal::into_reply);
        if !may_refuse && !cfg!(mutant = "refused_after_proposal") {
            return reply;
        }
        self.0.with_room(reply).unwrap_or_else(|| Refusal::of(RequestError::Overloaded).into_reply())
    }
}

impl Inner {
    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let method = match request.method() {
            &Method::HEAD => Method::GET, // hyper leaves the body out
            method => method.clone(),
        };
        let uri = request.uri().clone();
        match (&method, uri.path()) {
            (&Method::POST, "/kv") => self.set(request).await,
            (&Method::GET, "/kv") => self.list(&request).await,
            (&Method::GET, path) if let Some(key) = path.strip_prefix("/kv/") => self.get(&request, key).await,
            (&Method::DELETE, path) if let Some(key) = path.strip_prefix("/kv/") => self.delete(&request, key).await,
            (_, path) if members::is_theirs(path) => self.route_members(&method, request).await,
            (&Method::POST, "/cut") if self.info.may_cut => self.cut(request).await,
            (&Method::GET, "/snapshot") => backup::start(self, &request).await,
            (&Method::GET, "/watch") => watch::start(self, &request).await,
            (&Method::POST, "/snapshot") => self.snapshot(&request).await,
            (&Method::GET, "/status") => self.status(false).await,
            (&Method::GET, "/debug") => self.status(true).await,
            (&Method::GET, "/health" | "/readyz") => self.health().await,
            // A machine without a leader, or with a disk that stands still, is not helped by a restart.
            (&Method::GET, "/livez") => Ok(json(StatusCode::OK, &serde_json::json!({ "status": status::HEALTHY }))),
            (&Method::GET, "/metrics") => self.metrics().await,
            (&Method::GET, upgrade::PATH) => Ok(self.accept_peer(request)),
            (_, "/kv") => {
                let does = "POST /kv {\"key\",\"value\"} sets a key, GET /kv lists them, DELETE /kv/KEY deletes one";
                Err(Refusal::method("GET, HEAD, POST", does))
            }
            (_, path) if path.starts_with("/kv/") => {
                let does = "GET /kv/KEY reads it, DELETE /kv/KEY deletes it, POST /kv {\"key\",\"value\"} sets it";
                Err(Refusal::method("DELETE, GET, HEAD", does))
            }
            (_, "/snapshot") => {
                let does = "GET /snapshot is a backup, POST /snapshot has the node compact its log";
                Err(Refusal::method("GET, HEAD, POST", does))
            }
            (_, "/cut") if self.info.may_cut => {
                Err(Refusal::method("POST", "POST /cut {\"peers\":[\"ID\"]} ignores peers"))
            }
            (
                _,
                path
                @ ("/watch" | "/status" | "/debug" | "/health" | "/livez" | "/readyz" | "/metrics" | upgrade::PATH),
            ) => Err(Refusal::method("GET, HEAD", &format!("GET {path} is the only one here"))),
            _ => Err(Refusal::new(StatusCode::NOT_FOUND, "not found")),
        }
    }

    async fn set(&self, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let (head, body) = request.into_parts();
        let parameters = Parameters::parse(head.uri.query(), &["timeout"])?;
        let header_condition = condition_of(&head.headers)?;
        let session = session_of(&head.headers)?;
        let (body, room) = self.body(body).await?;
        let SetBody { key, value, if_value } = from_json(&body)?;
        let key = checked_key(&key)?;
        let value = checked_value(&value)?;
        let condition = match (header_condition, if_value) {
            (condition, None) => condition,
            (None, Some(None)) => Some(Condition::Absent),
            (None, Some(Some(expected))) => Some(Condition::Value(checked_value(&expected)?)),
            (Some(_), Some(_)) => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "give one condition: if_value, If-Match or If-None-Match",
                ));
            }
        };
        let command = Operation::Set { key: key.clone(), value: value.clone(), condition };
        let outcome = self.write(session, command, &parameters).await?;
        Ok(match outcome {
            Outcome::Set { version } => self.with_room_of(room, item(&key, &value, version)),
            other => self.not_written(&key, &other),
        })
    }

    async fn delete(&self, request: &Request<Incoming>, key: &str) -> Result<Reply, Refusal> {
        let parameters = Parameters::parse(request.uri().query(), &["timeout"])?;
        let key = key_in_path(key)?;
        let command = Operation::Delete { key: key.clone(), condition: condition_of(request.headers())? };
        match self.write(session_of(request.headers())?, command, &parameters).await? {
            Outcome::Deleted { existed } => Ok(json(StatusCode::OK, &Deleted { key: text(&key), deleted: existed })),
            other => Ok(self.not_written(&key, &other)),
        }
    }

    async fn get(&self, request: &Request<Incoming>, key: &str) -> Result<Reply, Refusal> {
        let parameters = Parameters::parse(request.uri().query(), &["consistency", "timeout"])?;
        let key = key_in_path(key)?;
        let found = self.read(Query::Get { key: key.clone() }, &parameters).await?.map_err(Refusal::of)?;
        Ok(match found {
            Some(Versioned { value, version }) => item(&key, &value, version),
            None => json(StatusCode::NOT_FOUND, &KeyError { error: "key not found", key: text(&key) }),
        })
    }

    async fn list(&self, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let names = ["prefix", "after", "limit", "consistency", "timeout"];
        let parameters = Parameters::parse(request.uri().query(), &names)?;
        let bytes = |name| parameters.get(name).map(|value| Bytes::from(value.to_owned()));
        let limit = match parameters.get("limit").map(str::parse::<usize>) {
            None => LIST_LIMIT,
            Some(Ok(limit @ 1..=MAX_LIST_LIMIT)) => limit,
            Some(_) => {
                let message = format!("limit must be a number from 1 to {MAX_LIST_LIMIT}");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
            }
        };
        let query = Query::List { prefix: bytes("prefix").unwrap_or_default(), after: bytes("after"), limit };
        let Page { items, more } = self.read(query, &parameters).await?.map_err(Refusal::of)?;
        let next = if more { items.last().map(|(key, _)| text(key)) } else { None };
        let items = items.iter().map(|(key, versioned)| Item::new(key, &versioned.value, versioned.version));
        Ok(json(StatusCode::OK, &Listing { items: items.collect(), more, next }))
    }

    async fn write(
        &self,
        session: Option<SessionId>,
        command: Operation,
        parameters: &Parameters<'_>,
    ) -> Result<Outcome, Refusal> {
        let request = command::SessionRequest { session, command };
        self.ask(Ask::Write(request.encode()), parameters.timeout()?).await?.map_err(Refusal::of)
    }

    pub(super) async fn read<T: TryFrom<Answer>>(
        &self,
        query: Query,
        parameters: &Parameters<'_>,
    ) -> Result<Result<T, RequestError>, Refusal> {
        let ask = match parameters.get("consistency") {
            None | Some("linearizable") => Ask::Read(query),
            Some("stale") => {
                // What waits for the disk need not keep anybody from what does not.
                let (announced, read) = (*self.waiters.announced.borrow(), query.clone());
                let durable = self.inspect(move |machine| machine.read_durable(&read, announced)).await?;
                match durable {
                    Some(answer) => {
                        self.info.stale_reads.inc();
                        return Ok(Ok(expected(answer)));
                    }
                    None => Ask::ReadStale(query),
                }
            }
            Some(_) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "consistency is linearizable or stale")),
        };
        self.ask(ask, parameters.timeout()?).await
    }

    /// Asks the machine for what is answered with a `T`.
    pub(super) async fn ask<T: TryFrom<Answer>>(
        &self,
        ask: Ask,
        timeout: Duration,
    ) -> Result<Result<T, RequestError>, Refusal> {
        if let Some(why) = self.halted.get() {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(5));
        }
        let is_write = matches!(ask, Ask::Write(_) | Ask::Administer(_));
        let is_snapshot = matches!(ask, Ask::Snapshot);
        let id = RequestId(self.next_id());
        let (answer, answered) = oneshot::channel();
        // The machine knows more than that time is up, so it is let answer first.
        let until = Instant::now() + timeout + ANSWER_GRACE;
        self.waiters.lock().insert(id, Waiter { answer, until });
        let _forget = Forget { waiters: &self.waiters, id };
        self.node.request(raft_kv::Command { id, ask, timeout }).await?;
        let answered = answered.await;
        if answered.is_err() && until <= Instant::now() {
            let why = self.info.disk.stands_still().unwrap_or_else(|| "this node's disk is slow".to_owned());
            return Err(if is_write || is_snapshot {
                Refusal::new(StatusCode::GATEWAY_TIMEOUT, &format!("outcome unknown: {why}"))
            } else {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &format!("no answer in time: {why}")).retry_after(1)
            });
        }
        answered.map(|answer| answer.map(expected)).map_err(|_| match self.halted.get() {
            Some(why) if is_write => Refusal::new(StatusCode::GATEWAY_TIMEOUT, &format!("outcome unknown: {why}")),
            // A disk that has refused to take a snapshot has none.
            Some(why) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why),
            None if is_write || is_snapshot => Refusal::of(RequestError::OutcomeUnknown),
            None => Refusal::from(Stopped),
        })
    }

    /// A number that this node has not used before, not even in an earlier life.
    pub(super) fn next_id(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// The answer to a write that changed nothing.
    fn not_written(&self, key: &Bytes, outcome: &Outcome) -> Reply {
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
                let told = self.with_room(condition_failed(current.as_ref(), false, false));
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
            Outcome::Set { .. } | Outcome::Deleted { .. } | Outcome::Founded { .. } => {
                unreachable!("each kind of command has its kind of outcome")
            }
        }
    }

    async fn snapshot(&self, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let parameters = Parameters::parse(request.uri().query(), &["timeout"])?;
        self.ask::<()>(Ask::Snapshot, parameters.timeout()?).await?.map_err(Refusal::of)?;
        // It is done, even if the node stops before it can tell up to where.
        let index = self.inspect(|machine| machine.raft().snapshot().index.0).await.ok();
        Ok(json(StatusCode::OK, &serde_json::json!({ "snapshotIndex": index })))
    }

    async fn status(&self, with_store: bool) -> Result<Reply, Refusal> {
        let info = self.info.clone();
        let halted = self.halted.get().cloned();
        let status = self.inspect(move |machine| info.status(machine, halted.as_deref(), with_store)).await?;
        Ok(json(StatusCode::OK, &status))
    }

    async fn health(&self) -> Result<Reply, Refusal> {
        let halted = self.halted.get().cloned();
        let info = self.info.clone();
        let health = self.inspect(move |machine| info.health(machine, halted.as_deref())).await?;
        let code = if health == status::HEALTHY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok(json(code, &serde_json::json!({ "status": health })))
    }

    async fn metrics(&self) -> Result<Reply, Refusal> {
        let info = self.info.clone();
        let text = self.inspect(move |machine| info.metrics(machine)).await?;
        let mut reply = Response::new(Body::from(Bytes::from(text)));
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        reply.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(reply)
    }

    /// Looks at the machine, with patience: reports must not hang when the machine does.
    pub(super) async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&RaftKv) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let looked = tokio::time::timeout(REQUEST_TIMEOUT, self.node.inspect(look)).await;
        Ok(looked.map_err(|_| Refusal::from(Stopped))??)
    }

    fn accept_peer(self: &Arc<Self>, request: Request<Incoming>) -> Reply {
        let api = Arc::clone(self);
        upgrade::accept(request, self.info.id, &self.info.members, async move |from, stream| {
            let replaced = CancellationToken::new();
            if let Some(older) = api.peer_streams().insert(from, replaced.clone()) {
                older.cancel();
            }
            tracing::debug!("{from} is connected");
            let since = Instant::now();
            tokio::select! {
                received = link::receive(from, stream, &api.node) => match received {
                    Ok(()) => tracing::debug!("{from} has hung up"),
                    Err(error) => {
                        let was_there = since.elapsed() > LINK_STANDS;
                        api.info.members.known().hung_up(from.as_str(), &error.to_string(), was_there);
                    }
                },
                () = replaced.cancelled() => tracing::debug!("{from} has connected anew"),
                () = api.info.members.cut_off(from) => tracing::info!("hung up on {from}, as POST /cut asks"),
                () = api.info.members.left(from) => tracing::info!("hung up on {from}, which is no member any more"),
            }
        })
    }

    fn peer_streams(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, CancellationToken>> {
        self.peer_streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of an answer, with the right to take that much memory.
pub(super) struct Accounted {
    pub(super) bytes: Bytes,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What an answer holds.
fn expected<T: TryFrom<Answer>>(answer: Answer) -> T {
    T::try_from(answer).ok().expect("each kind of request has its kind of answer")
}

/// Takes a request out of the waiters when its connection does not wait for it any more.
struct Forget<'a> {
    waiters: &'a Waiters,
    id: RequestId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiters.lock().remove(&self.id);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    /// Absent: no condition. Null: the key must be absent.
    #[serde(borrow, default, deserialize_with = "present")]
    if_value: Option<Option<Cow<'a, str>>>,
}

/// Tells a null from a field that is not there.
fn present<'de: 'a, 'a, D>(deserializer: D) -> Result<Option<Option<Cow<'a, str>>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Deserialize::deserialize(deserializer).map(Some)
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

/// A key with its value; the version is its entity tag, for `If-Match`.
fn item(key: &Bytes, value: &Bytes, version: u64) -> Reply {
    let mut reply = json(StatusCode::OK, &Item::new(key, value, version));
    let tag = HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes");
    reply.headers_mut().insert(ETAG, tag);
    reply
}

/// Keys and values come as JSON strings, so they are UTF-8.
fn text(bytes: &Bytes) -> Cow<'_, str> {
    // Looks at many bytes at a time, unlike the lossy conversion.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

fn checked_key(key: &str) -> Result<Bytes, Refusal> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(Bytes::from(key.to_owned())),
        len => {
            let message = format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {len}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
        }
    }
}

fn checked_value(value: &str) -> Result<Bytes, Refusal> {
    if value.len() > MAX_VALUE_BYTES {
        let message = format!("a value has at most {MAX_VALUE_BYTES} bytes, this one has {}", value.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, &message));
    }
    Ok(Bytes::from(value.to_owned()))
}

fn key_in_path(encoded: &str) -> Result<Bytes, Refusal> {
    checked_key(&decoded("the key", encoded)?)
}

/// The condition that headers state (RFC 9110 §13.1). Versions are strong entity tags.
fn condition_of(headers: &HeaderMap) -> Result<Option<Condition>, Refusal> {
    let refuse = |message| Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    let all = |name| headers.get_all(name).iter().map(move |value| (name, value));
    let mut conditions = all(&IF_MATCH).chain(all(&IF_NONE_MATCH));
    let (first, second) = (conditions.next(), conditions.next());
    match first {
        _ if second.is_some() => refuse("give one condition: if_value, If-Match or If-None-Match"),
        None => Ok(None),
        Some((name, value)) if *name == IF_NONE_MATCH => {
            if value == "*" {
                Ok(Some(Condition::Absent))
            } else {
                refuse("If-None-Match takes only *")
            }
        }
        Some((_, value)) => {
            let version = value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok());
            match version {
                Some(version) => Ok(Some(Condition::Version(version))),
                None => refuse("If-Match takes one version, such as \"7\""),
            }
        }
    }
}

/// The name that the header `Idempotency-Key: CLIENT:SEQ` gives a request.
fn session_of(headers: &HeaderMap) -> Result<Option<SessionId>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = if values.next().is_none() { value.to_str() } else { Ok("") }; // two names are none
    let parts = value.ok().and_then(|text| text.trim().rsplit_once(':'));
    match parts.map(|(client, sequence)| (client, sequence.parse())) {
        Some((client, Ok(sequence))) if (1..=MAX_CLIENT_BYTES).contains(&client.len()) => {
            Ok(Some(SessionId { client: Bytes::from(client.to_owned()), sequence }))
        }
        Some(_) | None => {
            let message = format!(
                "Idempotency-Key takes CLIENT:SEQ, such as shop-17:4: a name of 1 to {MAX_CLIENT_BYTES} bytes that no other \
                 client has, and a number that rises with each of its requests"
            );
            Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
        }
    }
}
