//! Who peers are to each other, and whom they take, when they [upgrade](crate::http::upgrade) a
//! connection to a link.
//!
//! Either side looks whether the other is [who it was](crate::net::identity::known_peers) before it sends or takes a message. So
//! the answer has the headers of [`hello`](crate::http::hello), too. They come with a refusal as well, and with 503, which is the
//! answer while either side is new: so new nodes vouch for each other. `knows` in a request asks for a `start` in the answer; in a
//! refusal it has the dialler dial once more with that start.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::net::TcpStream;

use super::members_table::Members;
use crate::http::hello::{hello_in, introduce};
use crate::http::peers::{self, Call, Verdict};
use crate::http::reply::{Reply, error};
use crate::http::upgrade::{Admission, DialError, PeerProtocol, Version};
use crate::kv::raft_kv::PROTOCOL;
use crate::net::identity::known_peers::{Hello, Known, KnownPeers, PeerRejected};
use crate::net::identity::random_id::MemberAddr;
use crate::net::place::Place;
use crate::net::session::Session;
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
pub async fn dial(addr: &str, from: &Dialler, to: NodeId) -> Result<Option<(TcpStream, Session)>, DialError> {
    let known = from.members.known_peers();
    let call = Patient { from, to, was_new: known.is_new(), asked: None };
    let dialled = peers::dial(addr, Members::PROTOCOL, (from.id, &from.place), to, call).await;
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

/// A call that, refused with the question for a start, is made once more with that start.
struct Patient<'a> {
    from: &'a Dialler,
    to: NodeId,
    /// Whether this node had not begun when it called.
    was_new: bool,
    /// The start of this node that the other has asked for.
    asked: Option<u64>,
}

impl Call for Patient<'_> {
    fn introduce(&self, headers: &mut HeaderMap) {
        introduce(&self.from.members.known_peers().hello(self.to.as_str(), self.asked), headers);
    }

    fn judge(&mut self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let (members, to, was_new) = (&self.from.members, self.to, self.was_new);
        let (known, is_taken) = (members.known_peers(), status == StatusCode::SWITCHING_PROTOCOLS);
        let hello = hello_in(headers);
        if self.asked.is_none() && !is_taken {
            self.asked = hello.as_ref().and_then(|hello| known.asked(hello));
            if self.asked.is_some() {
                return Verdict::Again;
            }
        }
        let met = hello.as_ref().map(|hello| meet(known, to, hello, members.member_addr(to).as_ref()));
        if !is_taken {
            let is_one_new = was_new || hello.is_some_and(|hello| hello.has_begun == Some(false));
            let waits = met.is_some() && is_one_new && status == StatusCode::SERVICE_UNAVAILABLE;
            return if waits { Verdict::Leave } else { Verdict::Refused };
        }
        match met {
            None => Verdict::Refuse("it does not say who it is: run the same version of raft-node everywhere"),
            Some(true) if !was_new => {
                members.note_version(to, Version::in_headers(headers));
                Verdict::Take
            }
            Some(_) => Verdict::Leave,
        }
    }

    fn reached_at(&self, own: String) {
        self.from.members.reached_at(own);
    }
}

/// Whether who answered is taken for `to`. If not, that is said.
fn meet(known: &KnownPeers, to: NodeId, hello: &Hello, member: Option<&MemberAddr>) -> bool {
    let met = known.meet(to.as_str(), hello, member);
    known.heard(to.as_str(), hello);
    met.map_err(|rejected| known.turn_away(to.as_str(), &rejected)).is_ok()
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
        if let Err(rejected) = met {
            if matches!(rejected, PeerRejected::NotAMember { .. }) && self.is_empty() {
                // The members often hear of a new one before it hears of them. It is nobody's mistake, and soon over.
                let why = format!("{id} does not know yet in which cluster it is");
                return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, &why));
            }
            // It will dial again, with that start of its own, and is not refused before.
            if !matches!(rejected, PeerRejected::OtherPast { start, .. } if hello.may_prove(start)) {
                known.turn_away(from.as_str(), &rejected);
            }
            let status = match rejected {
                PeerRejected::OtherCluster { .. }
                | PeerRejected::OtherIncarnation { .. }
                | PeerRejected::Emptied { .. }
                | PeerRejected::OtherPast { .. } => StatusCode::CONFLICT,
                PeerRejected::Removed { .. } | PeerRejected::NotAMember { .. } => StatusCode::FORBIDDEN,
                PeerRejected::Forgetful { .. } => StatusCode::SERVICE_UNAVAILABLE,
            };
            return Err(refuse_by_name(status, &rejected.to_string()));
        }
        self.note_version(from, version);
        if let Some(addr) = addr {
            self.note_addr(from, addr);
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

    async fn until_unwanted(&self, from: NodeId) {
        tokio::select! {
            () = self.cut_off(from) => tracing::info!("hung up on {from}, as POST /cut asks"),
            () = self.removed(from) => tracing::info!("hung up on {from}, which is no member any more"),
        }
    }

    fn hung_up(&self, from: NodeId, why: &str, was_there: bool) {
        self.known_peers().hung_up(from.as_str(), why, was_there);
    }
}
