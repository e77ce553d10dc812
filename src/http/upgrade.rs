//! From an HTTP connection to a peer's link, on the same port.
//!
//! ```text
//! GET /peer HTTP/1.1
//! connection: upgrade
//! upgrade: netbelt-raft/1
//! netbelt-from: n2          who dials
//! netbelt-to: n1            whom it believes to reach
//! ```
//!
//! The answer is 101, and from then on the dialler sends [envelopes](crate::wire::envelope). A wrong name on either side is
//! refused with the reason, so that a mistaken `--peer` is found at once.

use std::io;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::api::error;
use super::server::{Reply, prepare};
use crate::defaults::{CONNECT_TIMEOUT, PEER_STALL};
use crate::raft::NodeId;

/// The path that peers dial.
pub const PATH: &str = "/peer";

const PROTOCOL: HeaderValue = HeaderValue::from_static("netbelt-raft/1");
const FROM: HeaderName = HeaderName::from_static("netbelt-from");
const TO: HeaderName = HeaderName::from_static("netbelt-to");

/// Why a peer could not be reached.
#[derive(Debug, Error)]
pub enum DialError {
    /// No connection.
    #[error("{addr}: {source}")]
    Connect {
        /// Where to.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was made and then failed.
    #[error("{addr}: {source}")]
    Http {
        /// Where to.
        addr: String,
        /// What went wrong.
        source: hyper::Error,
    },
    /// Whoever answers there does not take this node for a peer.
    #[error("{addr} refused with {status}: {reason}")]
    Refused {
        /// Where to.
        addr: String,
        /// Its status.
        status: StatusCode,
        /// Its reason.
        reason: String,
    },
    /// No answer in time.
    #[error("{addr} did not answer within {CONNECT_TIMEOUT:?}")]
    TimedOut {
        /// Where to.
        addr: String,
    },
}

/// Dials `to` at `addr` as `from`.
///
/// # Errors
/// When nobody answers there, or somebody who is not `to`.
pub async fn dial(addr: &str, from: NodeId, to: NodeId) -> Result<TcpStream, DialError> {
    let dialled = tokio::time::timeout(CONNECT_TIMEOUT, dial_patiently(addr, from, to)).await;
    dialled.unwrap_or_else(|_| Err(DialError::TimedOut { addr: addr.to_owned() }))
}

async fn dial_patiently(addr: &str, from: NodeId, to: NodeId) -> Result<TcpStream, DialError> {
    let http = |source| DialError::Http { addr: addr.to_owned(), source };
    let stream =
        TcpStream::connect(addr).await.map_err(|source| DialError::Connect { addr: addr.to_owned(), source })?;
    prepare(&stream, PEER_STALL);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("a dialled connection ended: {error}");
        }
    });
    let header = |id: NodeId| HeaderValue::from_str(id.as_str()).expect("a node id is printable ASCII");
    let request = Request::get(PATH)
        .header(HOST, addr)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, PROTOCOL)
        .header(FROM, header(from))
        .header(TO, header(to))
        .body(Empty::<Bytes>::new())
        .expect("the parts are valid");
    let response = sender.send_request(request).await.map_err(http)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), 4096).collect().await.map(http_body_util::Collected::to_bytes);
        let reason = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        return Err(DialError::Refused { addr: addr.to_owned(), status, reason });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(http)?;
    // What the peer might have said behind its answer is dropped: nothing comes back on a link but its end.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("it was made of one above");
    Ok(parts.io.into_inner())
}

/// Answers a peer that dials node `id`, whose other members are `is_peer`. With the answer 101, `then` gets the
/// peer's name and its stream.
pub fn accept<T>(
    request: Request<Incoming>,
    id: NodeId,
    is_peer: impl FnOnce(NodeId) -> bool,
    then: impl FnOnce(NodeId, TokioIo<Upgraded>) -> T + Send + 'static,
) -> Reply
where
    T: Future<Output = ()> + Send,
{
    if request.headers().get(UPGRADE) != Some(&PROTOCOL) {
        let mut reply = error(StatusCode::UPGRADE_REQUIRED, "peers upgrade this connection to netbelt-raft/1");
        reply.headers_mut().insert(UPGRADE, PROTOCOL);
        return reply;
    }
    let name = |header| request.headers().get(header).and_then(|value: &HeaderValue| value.to_str().ok()?.parse().ok());
    let (Some(from), Some(to)): (Option<NodeId>, Option<NodeId>) = (name(FROM), name(TO)) else {
        return error(StatusCode::BAD_REQUEST, "a peer names itself and whom it dials");
    };
    if to != id {
        return error(StatusCode::MISDIRECTED_REQUEST, &format!("this is {id}, not {to}: check --peer of {from}"));
    }
    if !is_peer(from) {
        return error(
            StatusCode::FORBIDDEN,
            &format!("{from} is not a member of the cluster of {id}: check --peer of {id}"),
        );
    }
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(stream) => then(from, TokioIo::new(stream)).await,
            Err(error) => tracing::debug!("{from} dialled and did not upgrade: {error}"),
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, PROTOCOL)
        .body(Default::default())
        .expect("the parts are valid")
}
