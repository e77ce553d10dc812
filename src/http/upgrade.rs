//! From an HTTP connection to a peer's link, on the same port.
//!
//! ```text
//! GET /peer HTTP/1.1
//! connection: upgrade
//! upgrade: netbelt-raft/2   what it speaks
//! netbelt-from: n2          who dials
//! netbelt-to: n1            whom it believes to reach
//! netbelt-addr: HOST:PORT   where it can be dialled in turn, if it knows
//! netbelt-version: 0.1.0    the netbelt that it runs
//! netbelt-format: 2         the format of its data directory
//! ```
//!
//! and what else the protocol has nodes say of themselves: its `Admission` looks at that. The answer is 101, and from then on the
//! dialler sends [envelopes](crate::wire::envelope). A wrong name is refused with the reason, so that a mistaken `--peer` is found
//! at once.
//!
//! The number behind the name of what is spoken is the protocol's. A node that speaks several offers all of them, separated by
//! commas, and is answered with the one that is taken, or with 426.

use std::{fmt, io};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpStream;

use super::reply::{Reply, error};
use super::socket::prepare;
use crate::defaults::{CONNECT_TIMEOUT, PEER_STALL};
use crate::net::address::without_zone;
use crate::net::identity::data_dir::{FORMAT, VERSION};
use crate::net::place::Place;
use crate::net::tcp;
use crate::node_id::NodeId;

/// The path that peers dial.
pub(super) const PATH: &str = "/peer";

/// Longest version that is remembered of a peer.
const MAX_VERSION_BYTES: usize = 64;

const NETBELT: HeaderName = HeaderName::from_static("netbelt-version");
const DATA: HeaderName = HeaderName::from_static("netbelt-format");
const FROM: HeaderName = HeaderName::from_static("netbelt-from");
const TO: HeaderName = HeaderName::from_static("netbelt-to");
const ADDR: HeaderName = HeaderName::from_static("netbelt-addr");

/// What peers speak on a link. As text, and in the upgrade: `netbelt-raft/2`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerProtocol {
    /// Its name.
    pub(super) name: &'static str,
    /// It counts up with what it says.
    pub(super) number: u32,
}

impl PeerProtocol {
    fn header(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("a name and a number are a header's value")
    }

    /// Whether this is its name, whatever the number is.
    fn is_name_of(self, offered: &str) -> bool {
        offered.strip_prefix(self.name).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for PeerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.number)
    }
}

/// Whom a protocol's node lets in.
pub(super) trait Admission {
    /// What its peers speak.
    const PROTOCOL: PeerProtocol;

    /// What a peer says of itself beside its name.
    type Hello;

    /// This node.
    fn id(&self) -> NodeId;

    /// What the headers say of a peer; the error tells what it should have said.
    fn hello_in(headers: &HeaderMap) -> Result<Self::Hello, &'static str>;

    /// Takes `from`, which may say where it can be dialled in turn, and which netbelt it runs: then these are the headers by
    /// which this node introduces itself. The error is the whole answer to a peer that is not taken.
    fn admit(
        &self,
        from: NodeId,
        hello: &Self::Hello,
        addr: Option<&str>,
        version: Option<Version>,
    ) -> Result<HeaderMap, Box<Reply>>;

    /// Waits until `from`, which was let in, is to be heard no more, and says so; for ever, where that never happens.
    fn until_unwanted(&self, _from: NodeId) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// `from` was hung up on for what it sent, or its stream failed; it had been there for a while, or not.
    fn hung_up(&self, from: NodeId, why: &str, _was_there: bool) {
        tracing::info!("hung up on {from}: {why}");
    }
}

/// Which netbelt a node runs, and the format of its data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The version of netbelt.
    pub netbelt: String,
    /// The format of the data directory.
    pub data_format: u32,
}

impl Version {
    /// This node's.
    pub(super) fn own() -> Self {
        Self { netbelt: VERSION.to_owned(), data_format: FORMAT }
    }

    /// Adds this node's to headers.
    pub(super) fn put_own(headers: &mut HeaderMap) {
        headers.insert(NETBELT, HeaderValue::from_static(VERSION));
        headers.insert(DATA, HeaderValue::from(FORMAT));
    }

    /// A peer's, if it says so.
    pub(super) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |header: &HeaderName| headers.get(header)?.to_str().ok();
        let (netbelt, data_format) = (text(&NETBELT)?, text(&DATA)?.parse().ok()?);
        (netbelt.len() <= MAX_VERSION_BYTES).then(|| Self { netbelt: netbelt.to_owned(), data_format })
    }
}

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

/// Connects to `to` at `addr` as node `from`, which is at `place` and adds to the headers what else it says of itself. Returns
/// the answer, and where the other was told that this node is, if it was.
pub(super) async fn knock(
    addr: &str,
    protocol: PeerProtocol,
    from: (NodeId, &Place),
    to: NodeId,
    introduce: impl FnOnce(&mut HeaderMap),
) -> Result<(Response<Incoming>, Option<String>), DialError> {
    let (from, place) = from;
    let http = |source| DialError::Http { addr: addr.to_owned(), source };
    let stream = tcp::dial(addr).await.map_err(|source| DialError::Connect { addr: addr.to_owned(), source })?;
    prepare(&stream, PEER_STALL);
    // A connection that is gone already tells so below.
    let own = stream.local_addr().ok().zip(stream.peer_addr().ok()).map(|(local, remote)| place.toward(local, remote));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("a dialled connection ended: {error}");
        }
    });
    let header = |id: NodeId| HeaderValue::from_str(id.as_str()).expect("a node id is printable ASCII");
    let request = Request::get(PATH)
        .header(HOST, without_zone(addr))
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol.header())
        .header(FROM, header(from))
        .header(TO, header(to))
        .body(Empty::<Bytes>::new());
    let mut request = request.expect("the parts are valid");
    introduce(request.headers_mut());
    let own = own.and_then(Result::ok);
    if let Some(addr) = own.as_ref().and_then(|own| HeaderValue::try_from(own).ok()) {
        request.headers_mut().insert(ADDR, addr);
    }
    Ok((sender.send_request(request).await.map_err(http)?, own))
}

/// Why a peer did not take this node.
pub(super) async fn refused(addr: &str, response: Response<Incoming>) -> DialError {
    let status = response.status();
    let body = Limited::new(response.into_body(), 4096).collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|said| {
        said["error"].as_str().map(str::to_owned) // a node says it so
    });
    let reason = said.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    DialError::Refused { addr: addr.to_owned(), status, reason }
}

/// The stream behind the answer 101.
pub(super) async fn into_stream(addr: &str, response: Response<Incoming>) -> Result<TcpStream, DialError> {
    let http = |source| DialError::Http { addr: addr.to_owned(), source };
    let upgraded = hyper::upgrade::on(response).await.map_err(http)?;
    // What the peer might have said behind its answer is dropped: nothing comes back on a link but its end.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("it was made of one in knock");
    Ok(parts.io.into_inner())
}

/// Whether a peer asks to be let in. No browser can be made to ask so: the header is not a page's to set.
pub(super) fn is_from_peer<B>(request: &Request<B>, protocol: PeerProtocol) -> bool {
    let is_it = |offered: &str| offered.trim() == protocol.to_string();
    request.uri().path() == PATH && offered(request).split(',').any(is_it)
}

fn offered<B>(request: &Request<B>) -> &str {
    request.headers().get(UPGRADE).and_then(|offered| offered.to_str().ok()).unwrap_or_default()
}

/// Answers a peer that dials this node. With the answer 101, `then` gets the peer's name and its stream.
pub(super) fn accept<A: Admission, T>(
    request: Request<Incoming>,
    admission: &A,
    then: impl FnOnce(NodeId, TokioIo<Upgraded>) -> T + Send + 'static,
) -> Reply
where
    T: Future<Output = ()> + Send,
{
    let (id, protocol) = (admission.id(), A::PROTOCOL);
    if !is_from_peer(&request, protocol) {
        let offered = offered(&request);
        let what = if protocol.is_name_of(offered) {
            let theirs = Version::in_headers(request.headers());
            let theirs = theirs.map_or("of an unknown version".to_owned(), |theirs| theirs.netbelt);
            format!(
                "{id} runs netbelt {VERSION}, which speaks {protocol} with its peers, and was dialled by netbelt {theirs}, \
                 which speaks {offered}: run versions whose protocols are the same (see docs/upgrades.md)"
            )
        } else {
            format!("peers upgrade this connection to {protocol}")
        };
        let mut reply = error(StatusCode::UPGRADE_REQUIRED, &what);
        reply.headers_mut().insert(UPGRADE, protocol.header());
        return reply;
    }
    let name = |header| request.headers().get(header).and_then(|value: &HeaderValue| value.to_str().ok()?.parse().ok());
    let (Some(from), Some(to)): (Option<NodeId>, Option<NodeId>) = (name(FROM), name(TO)) else {
        return error(StatusCode::BAD_REQUEST, "a peer names itself and whom it dials");
    };
    if to != id {
        return error(StatusCode::MISDIRECTED_REQUEST, &format!("this is {id}, not {to}: check --peer of {from}"));
    }
    let hello = match A::hello_in(request.headers()) {
        Ok(hello) => hello,
        Err(lacks) => return error(StatusCode::BAD_REQUEST, lacks),
    };
    if from == id {
        return error(StatusCode::FORBIDDEN, &format!("{from} is not a peer of itself: check --peer of all nodes"));
    }
    let addr = request.headers().get(ADDR).and_then(|addr| addr.to_str().ok());
    let own = match admission.admit(from, &hello, addr, Version::in_headers(request.headers())) {
        Ok(own) => own,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(stream) => then(from, TokioIo::new(stream)).await,
            Err(error) => tracing::debug!("{from} dialled and did not upgrade: {error}"),
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol.header())
        .body(Bytes::new().into());
    let mut answer = answer.expect("the parts are valid");
    answer.headers_mut().extend(own);
    answer
}
