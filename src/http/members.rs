//! The members of the cluster: who they are and where, and the requests that tell and change them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /members?consistency=` | `{"members":[{"id","addr","voter","connected","matchIndex","netbelt","dataFormat"}]}` |
//! | `POST /members` `{"id","addr","incarnation"?}` | 201, or 200 when there was nothing to change: `{"id","addr","voter","cluster"}` |
//! | `DELETE /members/ID` | `{"id","removed":true}`, or 404 |
//! | `POST /members/ID/vouch` | `{"id","vouched":true,"node"}`, or 404: this node alone takes the next start of ID that comes |
//! | `POST /leader` `{"to":ID}`, or nothing | `{"leader"}`; without `to`, the follower that has most |
//!
//! Any member takes them all, and whom to vouch for is what the asked one remembers, leader or not; a node that is in no cluster says so at once: 503. What is told is as fresh as a linearizable
//! read, unless `consistency` is `stale`. A member is added as a learner, and votes as soon as it has caught up. Nobody is
//! added where another member is, a member that is connected is not said to be elsewhere, and none is removed without whom
//! those that are connected would be no majority: 409.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::api::{Api, Inner};
use super::reply::{Parameters, Refusal, Reply, decoded, from_json, json};
use crate::defaults::LEAVE_PAUSE;
use crate::kv::RaftKv;
use crate::kv::raft_kv::{Administration, Answer, Ask, Query};
use crate::net::identity::data_dir;
use crate::net::identity::known_peers::{KnownPeers, MemberAddr, PeerRejected, RandomId};
use crate::net::link::Outbox;
use crate::net::links::Links;
use crate::node_id::NodeId;
use crate::raft::{self, Change, Configuration, RoleName};

/// Longest address of a member: a DNS name and a port.
const MAX_ADDR_BYTES: usize = 260;

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
    fn own() -> Self {
        Self { netbelt: data_dir::VERSION.to_owned(), data_format: data_dir::FORMAT }
    }
}

/// Who the members are, and where they are dialled.
#[derive(Debug)]
pub struct Members {
    id: NodeId,
    known: Arc<KnownPeers>,
    links: Links<NodeId>,
    /// Where the peer that was connected to last was told that this node is.
    reached: Mutex<Option<String>>,
    view: watch::Sender<View>,
}

#[derive(Clone, Debug, Default)]
struct View {
    configuration: Configuration,
    /// Where the operator said at the start that they are, whatever the configuration says: until they are removed, since
    /// one that comes back may be anywhere.
    given: BTreeMap<NodeId, String>,
    /// Where nodes that called say that they are: newer than what the configuration says, and the only way to answer one of
    /// which nobody has told yet.
    callers: BTreeMap<NodeId, String>,
    /// Those that were members a moment ago, and where: they may have to hear of their removal, and to say who shall lead.
    leaving: BTreeMap<NodeId, String>,
    /// Which netbelt they run, of those that say so.
    versions: BTreeMap<NodeId, Version>,
    /// Whom this node is to ignore, for a while, to show what a partition does.
    cut: BTreeSet<NodeId>,
}

impl Members {
    /// Those of node `id`, to which these links lead; some are where the operator has said.
    ///
    /// # Errors
    /// When the disk refuses to remember who is none any more.
    pub fn new(
        id: NodeId,
        configuration: Configuration,
        given: BTreeMap<NodeId, String>,
        known: Arc<KnownPeers>,
        links: Links<NodeId>,
    ) -> Result<Self, PeerRejected> {
        let view = watch::Sender::new(View { given, ..View::default() });
        let members = Self { id, known, links, reached: Mutex::default(), view };
        members.are(configuration)?;
        Ok(members)
    }

    /// These are the members from now on.
    ///
    /// # Errors
    /// When the disk refuses to remember who is none any more.
    pub fn are(&self, configuration: Configuration) -> Result<(), PeerRejected> {
        let members = configuration.members();
        if !members.is_empty() {
            let voters: BTreeMap<_, _> = members.iter().map(|(id, member)| (id.as_str(), member.voter)).collect();
            self.known.set_members(&voters)?;
        }
        self.view.send_modify(|view| {
            let gone = |id: &NodeId| view.configuration.contains(*id) && !configuration.contains(*id);
            let seat = |of: &Configuration, id: &NodeId| of.members().get(id).map(|member| member.addr.clone());
            let before = self.addresses(view);
            view.leaving.extend(before.into_iter().filter(|(id, _)| gone(id)));
            view.leaving.retain(|id, _| !configuration.contains(*id));
            view.given.retain(|id, _| !gone(id));
            view.versions.retain(|id, _| !gone(id));
            view.callers.retain(|id, _| {
                seat(&view.configuration, id).is_none() || seat(&view.configuration, id) == seat(&configuration, id)
            });
            view.configuration = configuration;
        });
        Ok(())
    }

    /// What the configuration says of a member.
    pub fn seat(&self, id: NodeId) -> Option<MemberAddr> {
        self.view.borrow().configuration.members().get(&id).map(|member| MemberAddr::of(&member.addr))
    }

    /// Whom this node has met.
    pub fn known(&self) -> &KnownPeers {
        &self.known
    }

    /// The links to them.
    pub const fn links(&self) -> &Links<NodeId> {
        &self.links
    }

    /// From now on this node neither speaks to these nor hears them, and all others again.
    pub fn cut(&self, peers: BTreeSet<NodeId>) {
        self.view.send_modify(|view| view.cut = peers);
    }

    /// Whether this node is to ignore `id`.
    pub fn is_cut(&self, id: NodeId) -> bool {
        self.view.borrow().cut.contains(&id)
    }

    /// Waits until this node is to ignore `id`.
    pub async fn cut_off(&self, id: NodeId) {
        let _ = self.view.subscribe().wait_for(|view| view.cut.contains(&id)).await; // the sender is part of this
    }

    /// A node that was let in says where it is.
    pub fn called(&self, from: NodeId, addr: String) {
        if !is_addr(&addr) {
            return;
        }
        self.view.send_if_modified(|view| view.callers.insert(from, addr.clone()) != Some(addr));
    }

    /// A peer was told that this node is there.
    pub fn reached_at(&self, addr: String) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(addr);
    }

    /// Where this node is, which listens on `own_addr`, as far as it knows.
    fn own_addr(&self, own_addr: &str) -> String {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        reached.clone().unwrap_or_else(|| own_addr.to_owned())
    }

    /// A node that was met runs that netbelt.
    pub fn runs(&self, id: NodeId, version: Option<Version>) {
        self.view.send_if_modified(|view| {
            match version {
                Some(version) => _ = view.versions.insert(id, version),
                None => _ = view.versions.remove(&id),
            }
            false // nobody waits for that
        });
    }

    /// Keeps a link to each of them that can be dialled, for ever.
    pub async fn follow<F>(&self, keep_up: impl Fn(NodeId, String, Arc<Outbox>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut views = self.view.subscribe();
        loop {
            let wanted = self.addresses(&views.borrow_and_update());
            self.links.set(&wanted, &keep_up);
            let leaving = views.borrow().leaving.clone();
            let changed = views.changed();
            if leaving.is_empty() {
                let _ = changed.await; // the sender is part of this
            } else if tokio::time::timeout(LEAVE_PAUSE, changed).await.is_err() {
                self.view.send_modify(|view| view.leaving.retain(|id, _| !leaving.contains_key(id)));
            }
        }
    }

    /// Waits until `id`, which is a member or is about to be one, is none any more, and has had the time to hear of it.
    pub async fn left(&self, id: NodeId) {
        let mut views = self.view.subscribe();
        for stays in [true, false] {
            let here = |view: &View| view.configuration.contains(id) || view.leaving.contains_key(&id);
            let _ = views.wait_for(|view| here(view) == stays).await; // the sender is part of this
        }
    }

    /// Whether there are any: a node that joins has none at first.
    pub fn any(&self) -> bool {
        !self.view.borrow().configuration.members().is_empty()
    }

    fn addresses(&self, view: &View) -> BTreeMap<NodeId, String> {
        let members = view.configuration.members().iter();
        let mut addresses: BTreeMap<_, _> =
            members.map(|(id, member)| (*id, MemberAddr::of(&member.addr).addr)).collect();
        addresses.extend(view.leaving.clone());
        addresses.extend(view.callers.clone());
        for (id, addr) in &view.given {
            if addresses.contains_key(id) {
                addresses.insert(*id, addr.clone());
            }
        }
        addresses.retain(|id, addr| *id != self.id && !addr.is_empty() && !view.cut.contains(id));
        addresses
    }
}

/// A member, as `/status` and `/members` tell it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    id: String,
    addr: String,
    voter: bool,
    /// Of peers: whether this node is connected to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<bool>,
    /// Of a leader's followers: how far their log is known to match.
    #[serde(skip_serializing_if = "Option::is_none")]
    match_index: Option<u64>,
    /// Of those that this node has met since it started.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
}

impl Member {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn addr(&self) -> &str {
        &self.addr
    }

    /// Whether it is a peer that is not connected.
    pub(super) fn is_away(&self) -> bool {
        self.connected == Some(false)
    }
}

/// Every member that `machine` knows; this node itself is at `own_addr`.
pub(super) fn rows(machine: &RaftKv, members: &Members, own_addr: &str) -> Vec<Member> {
    let raft = machine.raft();
    let links = members.links.states();
    let view = members.view.borrow();
    let row = |(id, member): (&NodeId, &raft::Member)| {
        let link = links.get(id);
        let addr = match link {
            Some(link) => link.addr.clone(),
            None if *id == members.id => members.own_addr(own_addr),
            None => MemberAddr::of(&member.addr).addr,
        };
        Member {
            id: id.as_str().to_owned(),
            addr,
            voter: member.voter,
            connected: (*id != members.id).then(|| link.is_some_and(|link| link.is_up)),
            match_index: raft.progress().and_then(|progress| progress.get(id)).map(|progress| progress.match_index.0),
            version: if *id == members.id { Some(Version::own()) } else { view.versions.get(id).cloned() },
        }
    };
    raft.configuration().members().iter().map(row).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addition {
    id: String,
    addr: String,
    incarnation: Option<RandomId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Handover {
    to: Option<String>,
}

#[derive(Serialize)]
struct Added<'a> {
    id: &'a str,
    addr: &'a str,
    voter: bool,
    cluster: Option<RandomId>,
}

impl Api {
    /// Lets another node lead, if this one does; waits for that no longer than `timeout`.
    pub async fn hand_over(&self, timeout: Duration) {
        if self.0.halted.get().is_some() {
            return; // it leads nobody
        }
        let leads = self.0.node.inspect(|machine| {
            let configuration = machine.raft().configuration();
            machine.raft().role() == RoleName::Leader && configuration.voters().nth(1).is_some()
        });
        if leads.await.unwrap_or(false) {
            match self.0.administer(Administration::Transfer(None), timeout).await {
                Ok(()) => tracing::info!("another node leads now"),
                Err(_) => tracing::warn!("no other node took over in time; the others will elect one"),
            }
        }
    }
}

/// Whether a path is that of one of these requests.
pub(super) fn is_theirs(path: &str) -> bool {
    path == "/members" || path == "/leader" || path.starts_with("/members/")
}

impl Inner {
    pub(super) async fn route_members(&self, method: &Method, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let path = request.uri().path().to_owned();
        match (method, path.as_str(), path.strip_prefix("/members/")) {
            (&Method::GET, "/members", _) => self.members(&request).await,
            (&Method::POST, "/members", _) => self.add_member(request).await,
            (&Method::POST, "/leader", _) => self.change_leader(request).await,
            (_, _, Some(id)) if id.ends_with("/vouch") => match *method {
                Method::POST => self.vouch(id.trim_end_matches("/vouch")),
                _ => Err(Refusal::method("POST", "POST /members/ID/vouch takes the next start of a member that comes")),
            },
            (&Method::DELETE, _, Some(id)) => self.remove_member(&request, id).await,
            (_, "/members", _) => {
                let does = "GET /members tells the members, POST /members {\"id\",\"addr\"} adds one, DELETE /members/ID removes one";
                Err(Refusal::method("GET, HEAD, POST", does))
            }
            (_, "/leader", _) => {
                let does = "POST /leader {\"to\":\"ID\"} lets another node lead; GET /status tells who does";
                Err(Refusal::method("POST", does))
            }
            (_, _, _) => Err(Refusal::method("DELETE", "DELETE /members/ID removes one, GET /members tells them")),
        }
    }

    async fn members(&self, request: &Request<Incoming>) -> Result<Reply, Refusal> {
        let parameters = Parameters::parse(request.uri().query(), &["consistency", "timeout"])?;
        if parameters.get("consistency") != Some("stale") {
            self.refuse_outside().await?;
        }
        match self.read(Query::Version, &parameters).await? {
            Answer::Version(_) => {}
            other => return Err(self.refusal(&other)),
        }
        let info = self.info.clone();
        let rows = self.inspect(move |machine| rows(machine, &info.members, &info.addr)).await?;
        Ok(json(StatusCode::OK, &serde_json::json!({ "members": rows })))
    }

    async fn add_member(&self, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let (head, body) = request.into_parts();
        let timeout = Parameters::parse(head.uri.query(), &["timeout"])?.timeout()?;
        let (body, _room) = self.body(body).await?;
        let Addition { id, addr, incarnation } = from_json(&body)?;
        let id = node_id(&id)?;
        checked_addr(&addr)?;
        self.refuse_outside().await?;
        // What this node knows of the members may be old. It is not, after a linearizable read.
        self.barrier(timeout).await?;
        let known = Arc::clone(&self.info.members);
        let info = self.info.clone();
        let (configuration, cluster, rows) = self
            .inspect(move |machine| {
                let cluster = machine.state().cluster().map(RandomId);
                (machine.raft().configuration().clone(), cluster, rows(machine, &info.members, &info.addr))
            })
            .await?;
        let member = configuration.members().get(&id);
        let (seat, voter) =
            (member.map(|member| MemberAddr::of(&member.addr)), member.is_some_and(|member| member.voter));
        let wanted = match &seat {
            None => MemberAddr { addr, incarnation },
            Some(seat) => {
                let is_other = match (seat.incarnation, incarnation) {
                    (Some(has), Some(wants)) => has != wants,
                    (None, Some(wants)) => !known.known().may_take_name(id.as_str(), wants),
                    (_, None) => false,
                };
                if is_other {
                    let why = known.known().other_incarnation(id.as_str()).to_string();
                    return Err(Refusal::new(StatusCode::CONFLICT, &why));
                }
                MemberAddr { addr, incarnation: incarnation.or(seat.incarnation) }
            }
        };
        if let Some(why) = taken(&configuration, &rows, id, &wanted.addr) {
            return Err(Refusal::new(StatusCode::CONFLICT, &why));
        }
        let added = Added { id: id.as_str(), addr: &wanted.addr, voter, cluster };
        if seat.as_ref() == Some(&wanted) {
            return Ok(json(StatusCode::OK, &added));
        }
        let change = Change::Add { node: id, addr: wanted.to_string() };
        self.administer(Administration::Change(change), timeout).await?;
        Ok(json(if seat.is_none() { StatusCode::CREATED } else { StatusCode::OK }, &added))
    }

    async fn remove_member(&self, request: &Request<Incoming>, id: &str) -> Result<Reply, Refusal> {
        let timeout = Parameters::parse(request.uri().query(), &["timeout"])?.timeout()?;
        let id = id_in_path(id)?;
        self.refuse_outside().await?;
        self.barrier(timeout).await?;
        let info = self.info.clone();
        let needed = self.inspect(move |machine| needed(&rows(machine, &info.members, &info.addr), id)).await?;
        if let Some(why) = needed {
            return Err(Refusal::new(StatusCode::CONFLICT, &why).retry_after(1));
        }
        self.administer(Administration::Change(Change::Remove { node: id }), timeout).await?;
        Ok(json(StatusCode::OK, &serde_json::json!({ "id": id.as_str(), "removed": true })))
    }

    /// A person says that the data directory which comes next under a name is the right one. That is for this node alone, and
    /// needs no leader: there may be none until somebody vouches.
    fn vouch(&self, id: &str) -> Result<Reply, Refusal> {
        let id = id_in_path(id)?;
        match self.info.members.known().vouch(id.as_str()) {
            Ok(true) => {
                tracing::warn!("told to take the next start of {id} that comes (POST /members/{id}/vouch)");
                let vouched = serde_json::json!({ "id": id.as_str(), "vouched": true, "node": self.info.id.as_str() });
                Ok(json(StatusCode::OK, &vouched))
            }
            Ok(false) => {
                let why = format!("{} knows no {id} whose starts it could forget", self.info.id);
                Err(Refusal::new(StatusCode::NOT_FOUND, &why))
            }
            Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())),
        }
    }

    async fn change_leader(&self, request: Request<Incoming>) -> Result<Reply, Refusal> {
        let (head, body) = request.into_parts();
        let timeout = Parameters::parse(head.uri.query(), &["timeout"])?.timeout()?;
        let (body, _room) = self.body(body).await?;
        let Handover { to } = if body.is_empty() { Handover { to: None } } else { from_json(&body)? };
        let to = to.map(|to| node_id(&to)).transpose()?;
        self.refuse_outside().await?;
        self.administer(Administration::Transfer(to), timeout).await?;
        // It is done, even if the node stops before it can tell who leads.
        let leader = self.inspect(|machine| machine.raft().leader()).await.unwrap_or(to);
        Ok(json(StatusCode::OK, &serde_json::json!({ "leader": leader.as_ref().map(NodeId::as_str) })))
    }

    async fn administer(&self, what: Administration, timeout: Duration) -> Result<(), Refusal> {
        match self.ask(Ask::Administer(what), timeout).await? {
            Answer::Done => Ok(()),
            other => Err(self.refusal(&other)),
        }
    }

    /// Waits until this node has applied all that was committed before.
    async fn barrier(&self, timeout: Duration) -> Result<(), Refusal> {
        match self.ask(Ask::Read(Query::Version), timeout).await? {
            Answer::Version(_) => Ok(()),
            other => Err(self.refusal(&other)),
        }
    }

    /// Why it is not done. Where there is no leader, somebody may have said why: a node that was removed hears of it so.
    fn refusal(&self, answer: &Answer) -> Refusal {
        match (answer, self.info.members.known().refusal()) {
            (Answer::NoLeader, Some(why)) => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &format!("no leader: {why}")).retry_after(1)
            }
            _ => Refusal::of(answer),
        }
    }

    /// A node that is in no cluster knows nobody to wait for.
    async fn refuse_outside(&self) -> Result<(), Refusal> {
        let info = self.info.clone();
        match self.inspect(move |machine| info.outside(machine)).await? {
            Some(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &why).retry_after(1)),
            None => Ok(()),
        }
    }
}

/// Why no node `id` can be at `addr`, beside these members: two that are dialled at one address are one at most.
fn taken(configuration: &Configuration, rows: &[Member], id: NodeId, addr: &str) -> Option<String> {
    let is_anywhere = |addr: &str| addr.parse::<SocketAddr>().is_ok_and(|addr| addr.ip().is_unspecified());
    let seats = configuration.members().iter().map(|(id, member)| (id.as_str(), MemberAddr::of(&member.addr).addr));
    let places = seats.chain(rows.iter().map(|row| (row.id.as_str(), row.addr.clone())));
    if let Some((other, _)) = places.into_iter().find(|(other, at)| *other != id.as_str() && at == addr) {
        return Some(format!(
            "{addr} is the address of {other}: give {id} another one; if {other} is gone, first raft-ctl members remove {other}; \
             if it has moved, raft-ctl members add {other}=HOST:PORT"
        ));
    }
    let row = rows.iter().find(|row| row.id == id.as_str())?;
    let is_there = row.connected != Some(false) && !is_anywhere(&row.addr);
    (row.addr != addr && is_there).then(|| {
        format!(
            "{id} is a member, and connected at {}: to add another node give it another name; to move {id}, start it at {addr}, \
             which the others then hear from itself",
            row.addr
        )
    })
}

/// Why `id` cannot go: without it those that are there would be no majority, and nothing could be changed any more, not even
/// that. Whoever is away can go.
fn needed(rows: &[Member], id: NodeId) -> Option<String> {
    let (stay, go): (Vec<_>, Vec<_>) = rows.iter().filter(|row| row.voter).partition(|row| row.id != id.as_str());
    let away: Vec<_> = stay.iter().filter(|row| row.connected == Some(false)).map(|row| row.id.as_str()).collect();
    let is_majority = 2 * (stay.len() - away.len()) > stay.len();
    (!go.is_empty() && !away.is_empty() && !is_majority).then(|| {
        let (all, away) = (stay.len(), away.join(", "));
        format!(
            "without {id} the cluster would stand still: of the {all} that would vote this node is not connected to {away}; start \
             or remove that first"
        )
    })
}

/// Why members or leader stay what they are.
pub(super) fn refused(why: raft::Refusal) -> Refusal {
    use raft::Refusal as Why;
    let refused = |status| Refusal::new(status, &why.to_string());
    match why {
        Why::NotLeader => refused(StatusCode::SERVICE_UNAVAILABLE).retry_after(1),
        Why::NotReady | Why::ChangePending => refused(StatusCode::CONFLICT).retry_after(1),
        Why::AlreadyAMember | Why::LastVoter | Why::CannotLead => refused(StatusCode::CONFLICT),
        Why::NotAMember => refused(StatusCode::NOT_FOUND),
        Why::NotTakenOver => refused(StatusCode::GATEWAY_TIMEOUT),
    }
}

fn id_in_path(id: &str) -> Result<NodeId, Refusal> {
    node_id(&decoded("the name", id)?)
}

pub(super) fn node_id(text: &str) -> Result<NodeId, Refusal> {
    text.parse()
        .map_err(|error: crate::node_id::InvalidNodeId| Refusal::new(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// Whether it is `HOST:PORT`, as peers can dial it.
fn is_addr(addr: &str) -> bool {
    addr.len() <= MAX_ADDR_BYTES
        && addr.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && addr
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

fn checked_addr(addr: &str) -> Result<(), Refusal> {
    if is_addr(addr) {
        return Ok(());
    }
    let addr: String = addr.chars().take(80).collect();
    Err(Refusal::new(StatusCode::BAD_REQUEST, &format!("{addr:?} is no address of a member: give HOST:PORT")))
}
