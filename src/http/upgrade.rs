//! From an HTTP connection to a peer's link, on the same port.
//!
//! ```text
//! GET /peer HTTP/1.1
//! connection: upgrade
//! upgrade: netbelt-raft/2
//! netbelt-from: n2          who dials
//! netbelt-to: n1            whom it believes to reach
//! netbelt-cluster: 9f..     the cluster it belongs to, once it is known
//! netbelt-incarnation: 3c.. its data directory
//! netbelt-starts: 2 5e..,c1..   what became of that, see net::identity::boot_history
//! netbelt-state: begun      or new: it has no data, see founding
//! netbelt-knows: 70.. 17    by which directory and which of its starts it knows the node it dials, if it does
//! netbelt-start: 9 d4..     the start of its own that it was asked for
//! netbelt-addr: HOST:PORT   where it can be dialled in turn, if it knows
//! netbelt-version: 0.1.0    the netbelt that it runs
//! netbelt-format: 2         the format of its data directory
//! ```
//!
//! The answer is 101, with the headers from `cluster` to `start` of whoever was dialled, and from then on the dialler sends
//! [envelopes](crate::wire::envelope). Either side looks whether the other is [who it was](crate::net::identity::known_peers) before it
//! sends or takes a message. A wrong name is refused with the reason, so that a mistaken `--peer` is found at once.
//!
//! The headers come with a refusal, too, and with 503, which is the answer while either side is new: so new nodes vouch for each
//! other. `knows` in a request asks for a `start` in the answer; in a refusal it has the dialler dial once more with that start.
//! Older versions have neither `state` nor `knows` nor `start`.
//!
//! The number behind `netbelt-raft/` is the [protocol's](PROTOCOL). A node that speaks several offers all of them, separated by
//! commas, and is answered with the one that is taken, or with 426.

use std::io;
use std::str::FromStr;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::members::{Members, Version};
use super::reply::{Reply, error};
use super::server::prepare;
use crate::defaults::{CONNECT_TIMEOUT, PEER_STALL};
use crate::net::address::without_zone;
use crate::net::identity::data_dir::{FORMAT, VERSION};
use crate::net::identity::known_peers::{Hello, KnownPeers, MemberAddr, PeerRejected};
use crate::net::place::Place;
use crate::net::tcp;
use crate::node_id::NodeId;
use crate::wire::PROTOCOL;

/// Longest version that is remembered of a peer.
const MAX_VERSION_BYTES: usize = 64;

/// The path that peers dial.
pub const PATH: &str = "/peer";

/// The name of [`PROTOCOL`].
const NAME: HeaderValue = HeaderValue::from_static("netbelt-raft/2");
const NETBELT: HeaderName = HeaderName::from_static("netbelt-version");
const DATA: HeaderName = HeaderName::from_static("netbelt-format");
const FROM: HeaderName = HeaderName::from_static("netbelt-from");
const TO: HeaderName = HeaderName::from_static("netbelt-to");
const CLUSTER: HeaderName = HeaderName::from_static("netbelt-cluster");
const ADDR: HeaderName = HeaderName::from_static("netbelt-addr");
const INCARNATION: HeaderName = HeaderName::from_static("netbelt-incarnation");
const STARTS: HeaderName = HeaderName::from_static("netbelt-starts");
const START: HeaderName = HeaderName::from_static("netbelt-start");
const STATE: HeaderName = HeaderName::from_static("netbelt-state");
const KNOWS: HeaderName = HeaderName::from_static("netbelt-knows");
const NEW: &str = "new";
const BEGUN: &str = "begun";

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

/// Who dials.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// Its name.
    pub id: NodeId,
    /// Where it can be dialled in turn.
    pub place: Place,
    /// The members it knows.
    pub members: Arc<Members>,
}

/// Dials `to` at `addr`. Nothing, when either of them has not begun, and when who answers is not the one that the dialler has met
/// under that name, which it says in the log.
///
/// # Errors
/// When nobody answers there, or somebody who is not `to`, or who does not take the dialler.
pub async fn dial(addr: &str, from: &Dialler, to: NodeId) -> Result<Option<TcpStream>, DialError> {
    let known = from.members.known();
    let dialled = tokio::time::timeout(CONNECT_TIMEOUT, dial_patiently(addr, from, to)).await;
    let dialled = dialled.unwrap_or_else(|_| Err(DialError::TimedOut { addr: addr.to_owned() }));
    match &dialled {
        Ok(_) => known.refused_by(to.as_str(), None),
        Err(DialError::Refused {
            status:
                status @ (StatusCode::CONFLICT
                | StatusCode::FORBIDDEN
                | StatusCode::UPGRADE_REQUIRED
                | StatusCode::MISDIRECTED_REQUEST),
            reason,
            ..
        }) => {
            known.refused_by(to.as_str(), Some(reason));
            if known.is_new() && *status == StatusCode::CONFLICT {
                return Ok(None); // it is what this node waits for, and says
            }
        }
        Err(DialError::Refused { .. }) => {}
        Err(DialError::Connect { .. } | DialError::Http { .. } | DialError::TimedOut { .. }) => {
            known.heard_nothing(to.as_str());
        }
    }
    dialled
}

async fn dial_patiently(addr: &str, from: &Dialler, to: NodeId) -> Result<Option<TcpStream>, DialError> {
    let known = from.members.known();
    let was_new = known.is_new();
    let first = ask(addr, from, to, None).await?;
    let asked = hello_in(first.headers()).and_then(|hello| known.asked(&hello));
    let response = match asked {
        Some(_) if first.status() != StatusCode::SWITCHING_PROTOCOLS => ask(addr, from, to, asked).await?,
        Some(_) | None => first,
    };
    let (status, hello) = (response.status(), hello_in(response.headers()));
    let met = hello.as_ref().map(|hello| meet(known, to, hello, from.members.seat(to).as_ref()));
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let is_one_new = was_new || hello.is_some_and(|hello| hello.has_begun == Some(false));
        if met.is_some() && is_one_new && status == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(None);
        }
        let body = Limited::new(response.into_body(), 4096).collect().await.map(http_body_util::Collected::to_bytes);
        let body = body.unwrap_or_default();
        let said = serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|said| {
            said["error"].as_str().map(str::to_owned) // a node says it so
        });
        let reason = said.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        return Err(DialError::Refused { addr: addr.to_owned(), status, reason });
    }
    match met {
        None => {
            let reason = "it does not say who it is: run the same version of raft-node everywhere".to_owned();
            return Err(DialError::Refused { addr: addr.to_owned(), status, reason });
        }
        Some(true) if !was_new => from.members.runs(to, version_in(response.headers())),
        Some(_) => return Ok(None),
    }
    let http = |source| DialError::Http { addr: addr.to_owned(), source };
    let upgraded = hyper::upgrade::on(response).await.map_err(http)?;
    // What the peer might have said behind its answer is dropped: nothing comes back on a link but its end.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().expect("it was made of one in ask");
    Ok(Some(parts.io.into_inner()))
}

/// Whether who answered is taken for `to`. If not, that is said.
fn meet(known: &KnownPeers, to: NodeId, hello: &Hello, seat: Option<&MemberAddr>) -> bool {
    let met = known.meet(to.as_str(), hello, seat);
    known.heard(to.as_str(), hello);
    met.map_err(|stranger| known.turn_away(to.as_str(), &stranger)).is_ok()
}

/// Connects and introduces the dialler, with that one of its starts.
async fn ask(addr: &str, from: &Dialler, to: NodeId, start: Option<u64>) -> Result<Response<Incoming>, DialError> {
    let http = |source| DialError::Http { addr: addr.to_owned(), source };
    let stream = tcp::dial(addr).await.map_err(|source| DialError::Connect { addr: addr.to_owned(), source })?;
    prepare(&stream, PEER_STALL);
    // A connection that is gone already tells so below.
    let own =
        stream.local_addr().ok().zip(stream.peer_addr().ok()).map(|(local, remote)| from.place.toward(local, remote));
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
        .header(UPGRADE, NAME)
        .header(FROM, header(from.id))
        .header(TO, header(to))
        .body(Empty::<Bytes>::new());
    let mut request = request.expect("the parts are valid");
    introduce(&from.members.known().hello(to.as_str(), start), request.headers_mut());
    if let Some(Ok(own)) = &own
        && let Ok(addr) = HeaderValue::try_from(own)
    {
        request.headers_mut().insert(ADDR, addr);
    }
    let response = sender.send_request(request).await.map_err(http)?;
    if let Some(Ok(own)) = own
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        from.members.reached_at(own);
    }
    Ok(response)
}

fn introduce(hello: &Hello, headers: &mut HeaderMap) {
    let value = |text: String| HeaderValue::try_from(text).expect("digits are a header's value");
    headers.insert(INCARNATION, value(hello.incarnation.to_string()));
    headers.insert(STARTS, value(hello.starts.to_string()));
    headers.insert(NETBELT, HeaderValue::from_static(VERSION));
    headers.insert(DATA, HeaderValue::from(FORMAT));
    let state = hello.has_begun.map(|has_begun| if has_begun { BEGUN } else { NEW }.to_owned());
    let optional = [
        (CLUSTER, hello.cluster.map(|cluster| cluster.to_string())),
        (STATE, state),
        (KNOWS, hello.knows.map(|known| known.to_string())),
        (START, hello.proof.map(|start| start.to_string())),
    ];
    for (name, text) in optional {
        text.map(|text| headers.insert(name, value(text)));
    }
}

/// Which netbelt a peer runs, if it says so.
fn version_in(headers: &HeaderMap) -> Option<Version> {
    let text = |header: &HeaderName| headers.get(header)?.to_str().ok();
    let (netbelt, data_format) = (text(&NETBELT)?, text(&DATA)?.parse().ok()?);
    (netbelt.len() <= MAX_VERSION_BYTES).then(|| Version { netbelt: netbelt.to_owned(), data_format })
}

/// Nothing, where it says nothing that can be understood.
fn hello_in(headers: &HeaderMap) -> Option<Hello> {
    fn read<T: FromStr>(value: &HeaderValue) -> Option<T> {
        value.to_str().ok()?.parse().ok()
    }
    /// The outer one is None where it cannot be understood.
    fn optional<T: FromStr>(headers: &HeaderMap, name: HeaderName) -> Option<Option<T>> {
        headers.get(name).map_or(Some(None), |value| read(value).map(Some))
    }
    let has_begun = match headers.get(STATE).map(HeaderValue::as_bytes) {
        None => None,
        Some(state) if state == BEGUN.as_bytes() => Some(true),
        Some(state) if state == NEW.as_bytes() => Some(false),
        Some(_) => return None,
    };
    Some(Hello {
        cluster: optional(headers, CLUSTER)?,
        incarnation: read(headers.get(INCARNATION)?)?,
        starts: read(headers.get(STARTS)?)?,
        proof: optional(headers, START)?,
        has_begun,
        knows: optional(headers, KNOWS)?,
    })
}

/// Whether a peer asks to be let in. No browser can be made to ask so: the header is not a page's to set.
pub(super) fn is_from_peer<B>(request: &Request<B>) -> bool {
    request.uri().path() == PATH && offered(request).split(',').any(|offered| NAME == offered.trim())
}

fn offered<B>(request: &Request<B>) -> &str {
    request.headers().get(UPGRADE).and_then(|offered| offered.to_str().ok()).unwrap_or_default()
}

/// Answers a peer that dials node `id`, which knows these members. With the answer 101, `then` gets the peer's name and its
/// stream.
pub fn accept<T>(
    request: Request<Incoming>,
    id: NodeId,
    members: &Members,
    then: impl FnOnce(NodeId, TokioIo<Upgraded>) -> T + Send + 'static,
) -> Reply
where
    T: Future<Output = ()> + Send,
{
    if !is_from_peer(&request) {
        let offered = offered(&request);
        let what = if offered.starts_with("netbelt-raft/") {
            let theirs = version_in(request.headers());
            let theirs = theirs.map_or("of an unknown version".to_owned(), |theirs| theirs.netbelt);
            format!(
                "{id} runs netbelt {VERSION}, which speaks netbelt-raft/{PROTOCOL} with its peers, and was dialled by netbelt {theirs}, \
                 which speaks {offered}: run versions whose protocols are the same (see docs/upgrades.md)"
            )
        } else {
            format!("peers upgrade this connection to netbelt-raft/{PROTOCOL}")
        };
        let mut reply = error(StatusCode::UPGRADE_REQUIRED, &what);
        reply.headers_mut().insert(UPGRADE, NAME);
        return reply;
    }
    let name = |header| request.headers().get(header).and_then(|value: &HeaderValue| value.to_str().ok()?.parse().ok());
    let (Some(from), Some(to)): (Option<NodeId>, Option<NodeId>) = (name(FROM), name(TO)) else {
        return error(StatusCode::BAD_REQUEST, "a peer names itself and whom it dials");
    };
    if to != id {
        return error(StatusCode::MISDIRECTED_REQUEST, &format!("this is {id}, not {to}: check --peer of {from}"));
    }
    let Some(hello) = hello_in(request.headers()) else {
        return error(
            StatusCode::BAD_REQUEST,
            "a peer says which incarnation it is, and its starts: run the same version everywhere",
        );
    };
    if from == id {
        return error(StatusCode::FORBIDDEN, &format!("{from} is not a peer of itself: check --peer of all nodes"));
    }
    if members.is_cut(from) {
        return error(StatusCode::FORBIDDEN, &format!("{id} was told to ignore {from} (POST /cut)"));
    }
    let known = members.known();
    let introduced = |mut answer: Reply| {
        let asked = hello.knows.filter(|knows| knows.incarnation == known.incarnation()).and_then(|knows| knows.start);
        introduce(&known.hello(from.as_str(), asked), answer.headers_mut());
        answer
    };
    let met = known.meet(from.as_str(), &hello, members.seat(from).as_ref());
    known.heard(from.as_str(), &hello);
    if let Err(stranger) = met {
        if matches!(stranger, PeerRejected::NotAMember { .. }) && !members.any() {
            // The members often hear of a new one before it hears of them. It is nobody's mistake, and soon over.
            return error(StatusCode::SERVICE_UNAVAILABLE, &format!("{id} does not know yet in which cluster it is"));
        }
        // It will dial again, with that start of its own, and is not refused before.
        if !matches!(stranger, PeerRejected::OtherPast { start, .. } if hello.may_prove(start)) {
            known.turn_away(from.as_str(), &stranger);
        }
        let status = match stranger {
            PeerRejected::OtherCluster { .. }
            | PeerRejected::OtherIncarnation { .. }
            | PeerRejected::Emptied { .. }
            | PeerRejected::OtherPast { .. } => StatusCode::CONFLICT,
            PeerRejected::Removed { .. } | PeerRejected::NotAMember { .. } => StatusCode::FORBIDDEN,
            PeerRejected::Forgetful { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        return introduced(error(status, &stranger.to_string()));
    }
    members.runs(from, version_in(request.headers()));
    if let Some(addr) = request.headers().get(ADDR).and_then(|addr| addr.to_str().ok()) {
        members.called(from, addr.to_owned());
    }
    let new = if known.is_new() { Some(id) } else { (hello.has_begun == Some(false)).then_some(from) };
    if let Some(new) = new {
        return introduced(error(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!(
                "{new} has a new, empty data directory, and begins when each of its peers has said that it is as new"
            ),
        ));
    }
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(stream) => then(from, TokioIo::new(stream)).await,
            Err(error) => tracing::debug!("{from} dialled and did not upgrade: {error}"),
        }
    });
    let answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, NAME)
        .body(Bytes::new().into());
    introduced(answer.expect("the parts are valid"))
}
