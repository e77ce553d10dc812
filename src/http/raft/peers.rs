//! Who peers are to each other, and whom they take, when they [upgrade] a connection to a link.
//!
//! Either side looks whether the other is [who it was](crate::net::identity::known_peers) before it sends or takes a message. So
//! the answer has the headers of [`hello`](crate::http::hello), too. They come with a refusal as well, and with 503, which is the
//! answer while either side is new: so new nodes vouch for each other. `knows` in a request asks for a `start` in the answer; in a
//! refusal it has the dialler dial once more with that start.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::members_table::Members;
use super::node::Node;
use crate::defaults::{CONNECT_TIMEOUT, LINK_STANDS};
use crate::http::hello::{hello_in, introduce};
use crate::http::reply::{Reply, error};
use crate::http::upgrade::{self, Admission, DialError, PeerProtocol, Version};
use crate::kv::raft_kv::PROTOCOL;
use crate::net::identity::known_peers::{Hello, Known, KnownPeers, MemberAddr, PeerRejected};
use crate::net::link;
use crate::net::place::Place;
use crate::node_id::NodeId;

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
    let known = from.members.known_peers();
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
    let known = from.members.known_peers();
    let was_new = known.is_new();
    let first = ask(addr, from, to, None).await?;
    let asked = hello_in(first.headers()).and_then(|hello| known.asked(&hello));
    let response = match asked {
        Some(_) if first.status() != StatusCode::SWITCHING_PROTOCOLS => ask(addr, from, to, asked).await?,
        Some(_) | None => first,
    };
    let (status, hello) = (response.status(), hello_in(response.headers()));
    let met = hello.as_ref().map(|hello| meet(known, to, hello, from.members.member_addr(to).as_ref()));
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let is_one_new = was_new || hello.is_some_and(|hello| hello.has_begun == Some(false));
        if met.is_some() && is_one_new && status == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(None);
        }
        return Err(upgrade::refused(addr, response).await);
    }
    match met {
        None => {
            let reason = "it does not say who it is: run the same version of raft-node everywhere".to_owned();
            return Err(DialError::Refused { addr: addr.to_owned(), status, reason });
        }
        Some(true) if !was_new => from.members.note_version(to, Version::in_headers(response.headers())),
        Some(_) => return Ok(None),
    }
    upgrade::into_stream(addr, response).await.map(Some)
}

/// Whether who answered is taken for `to`. If not, that is said.
fn meet(known: &KnownPeers, to: NodeId, hello: &Hello, seat: Option<&MemberAddr>) -> bool {
    let met = known.meet(to.as_str(), hello, seat);
    known.heard(to.as_str(), hello);
    met.map_err(|stranger| known.turn_away(to.as_str(), &stranger)).is_ok()
}

/// Connects and introduces the dialler, with that one of its starts.
async fn ask(addr: &str, from: &Dialler, to: NodeId, start: Option<u64>) -> Result<Response<Incoming>, DialError> {
    let known = from.members.known_peers();
    let introduce = |headers: &mut HeaderMap| introduce(&known.hello(to.as_str(), start), headers);
    let (response, own) = upgrade::knock(addr, Members::PROTOCOL, (from.id, &from.place), to, introduce).await?;
    if let Some(own) = own
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        from.members.reached_at(own);
    }
    Ok(response)
}

/// Answers a peer that dials this node, and hears it from then on.
pub(super) fn accept(node: &Arc<Node>, request: Request<Incoming>) -> Reply {
    let peer_of = Arc::clone(node);
    upgrade::accept(request, &*node.info.members, async move |from, stream| {
        let (node, members) = (&peer_of, &peer_of.info.members);
        let replaced = node.new_stream(from);
        tracing::debug!("{from} is connected");
        let since = Instant::now();
        tokio::select! {
            received = link::receive(from, stream, &node.machine.handle) => match received {
                Ok(()) => tracing::debug!("{from} has hung up"),
                Err(error) => {
                    let was_there = since.elapsed() > LINK_STANDS;
                    members.known_peers().hung_up(from.as_str(), &error.to_string(), was_there);
                }
            },
            () = replaced.cancelled() => tracing::debug!("{from} has connected anew"),
            () = members.cut_off(from) => tracing::info!("hung up on {from}, as POST /cut asks"),
            () = members.removed(from) => tracing::info!("hung up on {from}, which is no member any more"),
        }
    })
}

impl Admission for Members {
    const PROTOCOL: PeerProtocol = PeerProtocol { name: "netbelt-raft", number: PROTOCOL };

    type Hello = Hello;

    fn id(&self) -> NodeId {
        self.id()
    }

    fn hello_in(headers: &HeaderMap) -> Result<Hello, &'static str> {
        hello_in(headers).ok_or("a peer says which incarnation it is, and its starts: run the same version everywhere")
    }

    fn admit(
        &self,
        from: NodeId,
        hello: &Hello,
        addr: Option<&str>,
        version: Option<Version>,
    ) -> Result<HeaderMap, Box<Reply>> {
        let id = self.id();
        let refuse = |status, why: &str| Box::new(error(status, why));
        if self.is_cut(from) {
            return Err(refuse(StatusCode::FORBIDDEN, &format!("{id} was told to ignore {from} (POST /cut)")));
        }
        let known = self.known_peers();
        let introduce = |headers: &mut HeaderMap| {
            let is_meant = |knows: &Known| knows.incarnation == known.incarnation();
            let asked = hello.knows.filter(is_meant).and_then(|knows| knows.start);
            introduce(&known.hello(from.as_str(), asked), headers);
        };
        let refuse_by_name = |status, why: &str| {
            let mut refusal = refuse(status, why);
            introduce(refusal.headers_mut());
            refusal
        };
        let met = known.meet(from.as_str(), hello, self.member_addr(from).as_ref());
        known.heard(from.as_str(), hello);
        if let Err(stranger) = met {
            if matches!(stranger, PeerRejected::NotAMember { .. }) && self.is_empty() {
                // The members often hear of a new one before it hears of them. It is nobody's mistake, and soon over.
                let why = format!("{id} does not know yet in which cluster it is");
                return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, &why));
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
            return Err(refuse_by_name(status, &stranger.to_string()));
        }
        self.note_version(from, version);
        if let Some(addr) = addr {
            self.note_addr(from, addr.to_owned());
        }
        let new = if known.is_new() { Some(id) } else { (hello.has_begun == Some(false)).then_some(from) };
        if let Some(new) = new {
            let why = format!(
                "{new} has a new, empty data directory, and begins when each of its peers has said that it is as new"
            );
            return Err(refuse_by_name(StatusCode::SERVICE_UNAVAILABLE, &why));
        }
        let mut own = HeaderMap::new();
        introduce(&mut own);
        Ok(own)
    }
}
