//! Which request goes where.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::members_table::Members;
use super::node::Node;
use super::status::{HEALTHY, NodeInfo};
use super::subscribers::Subscribers;
use super::{backup, keys, members, watch};
use crate::defaults::REQUEST_TIMEOUT;
use crate::http::machine::Halted;
use crate::http::reply::{Body, Refusal, Reply, json};
use crate::http::request::Parameters;
use crate::http::server::AsyncHandler;
use crate::http::upgrade::{self, Admission};
use crate::http::{cut, origin, peers};
use crate::kv::raft_kv::{Administration, Ask, RaftKv};
use crate::net::driver::{Handle, Stopped};
use crate::raft::RoleName;

/// A node, as its HTTP port sees it.
#[derive(Clone)]
pub struct Api(pub(super) Arc<Node>);

impl Api {
    /// The API of `node`. `first_request` must be larger than any number of an earlier life of this node.
    pub fn new(
        node: Handle<RaftKv>,
        info: NodeInfo,
        subscribers: Subscribers,
        first_request: u64,
        halted: Halted,
    ) -> Self {
        Self(Arc::new(Node::new(node, info, subscribers, first_request, halted)))
    }

    /// Lets another node lead, if this one does; waits for that no longer than `timeout`.
    pub async fn transfer_leadership(&self, timeout: Duration) {
        if self.0.machine.halted.get().is_some() {
            return; // it leads nobody
        }
        let leads = self.0.machine.handle.inspect(|machine| {
            let configuration = machine.raft().configuration();
            machine.raft().role() == RoleName::Leader && configuration.voters().nth(1).is_some()
        });
        if leads.await.unwrap_or(false) {
            match members::administer(&self.0, Administration::Transfer(None), timeout).await {
                Ok(()) => tracing::info!("another node leads now"),
                Err(_) => tracing::warn!("no other node took over in time; the others will elect one"),
            }
        }
    }

    /// Has the node write a snapshot into its log. False when that is not possible just now.
    ///
    /// # Errors
    /// When the node has stopped, or stands still.
    pub async fn compact(&self) -> Result<bool, Stopped> {
        match self.0.ask::<()>(Ask::Snapshot, REQUEST_TIMEOUT).await {
            Ok(answered) => Ok(answered.is_ok()),
            Err(_) if self.0.machine.halted.get().is_some() => Err(Stopped),
            // It takes longer than a request waits, say: what became of it shows when it is asked for again.
            Err(_) => self.0.machine.handle.inspect(|_| false).await,
        }
    }
}

impl AsyncHandler for Api {
    async fn answer(&self, request: Request<Incoming>, on_loopback: bool) -> Reply {
        let Self(node) = self;
        let info = &node.info;
        if let Err(refusal) = origin::check(&request, on_loopback, &info.addr, &info.names, Members::PROTOCOL) {
            return refusal.into_reply();
        }
        // What a write did is not undone by a refusal: only a read is refused when there is no room for its answer.
        let may_refuse = matches!(*request.method(), Method::GET | Method::HEAD);
        let reply = route(node, request).await.unwrap_or_else(Refusal::into_reply);
        if !may_refuse && !cfg!(mutant = "refused_after_proposal") {
            return reply;
        }
        node.memory.with_room(reply).unwrap_or_else(|| Refusal::overloaded().into_reply())
    }
}

async fn route(node: &Arc<Node>, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let method = match request.method() {
        &Method::HEAD => Method::GET, // hyper leaves the body out
        method => method.clone(),
    };
    let uri = request.uri().clone();
    match (&method, uri.path()) {
        (&Method::POST, "/kv") => keys::set(node, request).await,
        (&Method::GET, "/kv") => keys::list(node, &request).await,
        (&Method::GET, path) if let Some(key) = path.strip_prefix("/kv/") => keys::get(node, &request, key).await,
        (&Method::DELETE, path) if let Some(key) = path.strip_prefix("/kv/") => keys::delete(node, &request, key).await,
        (_, path) if members::is_theirs(path) => members::route(node, &method, request).await,
        (&Method::POST, "/cut") if node.info.may_cut => {
            cut::cut(&node.memory, request, |peers| node.info.members.cut(peers)).await
        }
        (&Method::GET, "/snapshot") => backup::start(node, &request).await,
        (&Method::GET, "/watch") => watch::start(node, &request).await,
        (&Method::POST, "/snapshot") => snapshot(node, &request).await,
        (&Method::GET, "/status") => status(node, false).await,
        (&Method::GET, "/debug") => status(node, true).await,
        (&Method::GET, "/health" | "/readyz") => health(node).await,
        // A machine without a leader, or with a disk that stands still, is not helped by a restart.
        (&Method::GET, "/livez") => Ok(json(StatusCode::OK, &serde_json::json!({ "status": HEALTHY }))),
        (&Method::GET, "/metrics") => metrics(node).await,
        (&Method::GET, upgrade::PATH) => {
            Ok(peers::accept(request, &node.info.members, &node.peer_streams, &node.machine.handle))
        }
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
        (_, "/cut") if node.info.may_cut => {
            Err(Refusal::method("POST", "POST /cut {\"peers\":[\"ID\"]} ignores peers"))
        }
        (
            _,
            path @ ("/watch" | "/status" | "/debug" | "/health" | "/livez" | "/readyz" | "/metrics" | upgrade::PATH),
        ) => Err(Refusal::method("GET, HEAD", &format!("GET {path} is the only one here"))),
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "not found")),
    }
}

async fn snapshot(node: &Node, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["timeout"])?;
    node.ask::<()>(Ask::Snapshot, parameters.timeout()?).await??;
    // It is done, even if the node stops before it can tell up to where.
    let index = node.machine.inspect(|machine| machine.raft().snapshot().index.0).await.ok();
    Ok(json(StatusCode::OK, &serde_json::json!({ "snapshotIndex": index })))
}

async fn status(node: &Node, with_store: bool) -> Result<Reply, Refusal> {
    let info = node.info.clone();
    let halted = node.machine.halted.get().cloned();
    let status = node.machine.inspect(move |machine| info.status(machine, halted.as_deref(), with_store)).await?;
    Ok(json(StatusCode::OK, &status))
}

async fn health(node: &Node) -> Result<Reply, Refusal> {
    let halted = node.machine.halted.get().cloned();
    let info = node.info.clone();
    let health = node.machine.inspect(move |machine| info.health(machine, halted.as_deref())).await?;
    let code = if health == HEALTHY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json(code, &serde_json::json!({ "status": health })))
}

async fn metrics(node: &Node) -> Result<Reply, Refusal> {
    let info = node.info.clone();
    let text = node.machine.inspect(move |machine| info.metrics(machine)).await?;
    let mut reply = Response::new(Body::from(Bytes::from(text)));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(reply)
}
