//! `GET /snapshot`: a [backup](crate::wire::backup) of the whole state, as it was at one moment, which no later write
//! changes: it holds every write that was acknowledged before it was asked for.
//!
//! It is read off a view while the node goes on, a chunk when the one before has been taken. A client that takes nothing is
//! cut, and its view closed.

use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use super::api::Inner;
use super::reply::{Body, BrokenOff, Parameters, Refusal, Reply};
use crate::defaults::{CLIENT_STALL, REQUEST_TIMEOUT};
use crate::kv::raft_kv::{Answer, Ask};
use crate::kv::view::ViewId;
use crate::wire::backup::{Header, Writer};

/// Answers `GET /snapshot`.
pub(super) async fn start(api: &Arc<Inner>, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let patience = Parameters::parse(request.uri().query(), &["timeout"])?.timeout()?;
    let slot = Arc::clone(&api.backups).try_acquire_owned();
    let slot = slot.map_err(|_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many backups").retry_after(5))?;
    let (opened, begun) = oneshot::channel();
    let (parts, body) = mpsc::channel(1);
    let api = Arc::clone(api);
    // A task of its own: whatever becomes of the client, the view is closed.
    tokio::spawn(async move {
        let _slot: OwnedSemaphorePermit = slot;
        match api.ask(Ask::OpenView, patience).await {
            Ok(Answer::View { id, version, cluster }) => {
                let header = Header { cluster, version };
                drop(opened.send(Ok(header)));
                let sent = send(&api, id, header, &parts).await;
                drop(api.ask(Ask::CloseView(id), REQUEST_TIMEOUT).await);
                if sent.is_none() {
                    let _ = timeout(CLIENT_STALL, parts.send(Err(BrokenOff))).await;
                }
            }
            Ok(other) => drop(opened.send(Err(Refusal::of(&other)))),
            Err(refusal) => drop(opened.send(Err(refusal))),
        }
    });
    let header = begun.await.unwrap_or_else(|_| Err(Refusal::of(&Answer::NoLeader)))?;
    let mut reply = Response::new(Body::Stream(body));
    let name = format!("attachment; filename=\"netbelt-{}.backup\"", header.version);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    reply.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::try_from(name).expect("a number is a header"));
    Ok(reply)
}

/// Sends all of it; None when the client or the view is gone.
async fn send(api: &Inner, id: ViewId, header: Header, parts: &mpsc::Sender<Result<Bytes, BrokenOff>>) -> Option<()> {
    let part = async |bytes| timeout(CLIENT_STALL, parts.send(Ok(bytes))).await.ok()?.ok();
    let (mut writer, begin) = Writer::begin(header);
    part(begin).await?;
    loop {
        match api.ask(Ask::NextChunk(id), REQUEST_TIMEOUT).await {
            Ok(Answer::Chunk(Some(chunk))) => {
                part(writer.chunk(&chunk)).await?;
                part(chunk).await?;
            }
            Ok(Answer::Chunk(None)) => return part(writer.end()).await,
            Ok(_) | Err(_) => return None,
        }
    }
}
