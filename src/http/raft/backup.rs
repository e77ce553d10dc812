//! `GET /snapshot`: a [backup](crate::kv::backup) of the whole state, as it was at one moment, which no later write
//! changes: it holds every write that was acknowledged before it was asked for. With `?consistency=stale` it is the state of this
//! node as it is, for which no leader is needed; headers say how far that is.
//!
//! It is read off a view while the node goes on, a chunk when the one before has been taken. A client that takes nothing is
//! cut, and its view closed.

use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use super::node::Node;
use crate::defaults::{CLIENT_STALL, REQUEST_TIMEOUT};
use crate::http::reply::{Body, BrokenOff, Refusal, Reply};
use crate::http::request::Parameters;
use crate::kv::backup::{Header, Writer};
use crate::kv::raft_kv::{Ask, OpenedView, RequestError};
use crate::kv::view::ViewId;

/// The last entry that is in a backup.
pub const THROUGH: HeaderName = HeaderName::from_static("netbelt-through");
/// The last entry that the node has which the backup is of.
pub const LAST: HeaderName = HeaderName::from_static("netbelt-last");

/// Answers `GET /snapshot`.
pub(super) async fn start(node: &Arc<Node>, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["consistency", "timeout"])?;
    let patience = parameters.timeout()?;
    let ask = match parameters.get("consistency") {
        None | Some("linearizable") => Ask::OpenView,
        Some("stale") => Ask::OpenStaleView,
        Some(_) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "consistency is linearizable or stale")),
    };
    let slot = Arc::clone(&node.backups).try_acquire_owned();
    let slot = slot.map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many backups").retry_after(5))?;
    let (opened, begun) = oneshot::channel();
    let (parts, body) = mpsc::channel(1);
    let node = Arc::clone(node);
    // A task of its own: whatever becomes of the client, the view is closed.
    tokio::spawn(async move {
        let _slot: OwnedSemaphorePermit = slot;
        match node.ask(ask, patience).await.and_then(|answered| Ok(answered?)) {
            Ok(OpenedView { id, version, cluster, through, last }) => {
                let header = Header { cluster, version };
                drop(opened.send(Ok((header, through, last))));
                let sent = send(&node, id, header, &parts).await;
                drop(node.ask::<()>(Ask::CloseView(id), REQUEST_TIMEOUT).await);
                if sent.is_none() {
                    let _ = timeout(CLIENT_STALL, parts.send(Err(BrokenOff))).await;
                }
            }
            Err(refusal) => drop(opened.send(Err(refusal))),
        }
    });
    let (header, through, last) = begun.await.unwrap_or_else(|_| Err(RequestError::NoLeader.into()))?;
    let mut reply = Response::new(Body::Stream(body));
    let name = format!("attachment; filename=\"netbelt-{}.backup\"", header.version);
    reply.headers_mut().insert(THROUGH, HeaderValue::from(through.0));
    reply.headers_mut().insert(LAST, HeaderValue::from(last.0));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    reply.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::try_from(name).expect("a number is a header"));
    Ok(reply)
}

/// Sends all of it; None when the client or the view is gone.
async fn send(node: &Node, id: ViewId, header: Header, parts: &mpsc::Sender<Result<Bytes, BrokenOff>>) -> Option<()> {
    let part = async |bytes| timeout(CLIENT_STALL, parts.send(Ok(bytes))).await.ok()?.ok();
    let (mut writer, begin) = Writer::begin(header);
    part(begin).await?;
    loop {
        match node.ask::<Option<Bytes>>(Ask::NextChunk(id), REQUEST_TIMEOUT).await {
            Ok(Ok(Some(chunk))) => {
                part(writer.chunk(&chunk)).await?;
                part(chunk).await?;
            }
            Ok(Ok(None)) => return part(writer.end()).await,
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}
