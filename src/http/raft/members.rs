//! The requests that tell the members of the cluster, and change them.
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

use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::member_rows::{Member, rows};
use super::node::Node;
use crate::http::reply::{Refusal, Reply, json};
use crate::http::request::{Parameters, decoded, from_json, node_id};
use crate::kv::raft_kv::{Administration, Ask, Query, RequestError};
use crate::net::identity::random_id::{MemberAddr, RandomId};
use crate::net::peer_addrs::is_addr;
use crate::node_id::NodeId;
use crate::raft::{Change, Configuration};

/// Whether a path is that of one of these requests.
pub(super) fn is_theirs(path: &str) -> bool {
    path == "/members" || path == "/leader" || path.starts_with("/members/")
}

pub(super) async fn route(node: &Node, method: &Method, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let path = request.uri().path().to_owned();
    match (method, path.as_str(), path.strip_prefix("/members/")) {
        (&Method::GET, "/members", _) => list(node, &request).await,
        (&Method::POST, "/members", _) => add_member(node, request).await,
        (&Method::POST, "/leader", _) => change_leader(node, request).await,
        (_, _, Some(id)) if id.ends_with("/vouch") => match *method {
            Method::POST => vouch(node, id.trim_end_matches("/vouch")),
            _ => Err(Refusal::method("POST", "POST /members/ID/vouch takes the next start of a member that comes")),
        },
        (&Method::DELETE, _, Some(id)) => remove_member(node, &request, id).await,
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

async fn list(node: &Node, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["consistency", "timeout"])?;
    if parameters.get("consistency") != Some("stale") {
        refuse_outside(node).await?;
    }
    let _: u64 = node.read(Query::Version, &parameters).await?.map_err(|error| refusal(node, error))?;
    let info = node.info.clone();
    let rows = node.machine.inspect(move |machine| rows(machine, &info.members, &info.addr)).await?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "members": rows })))
}

async fn add_member(node: &Node, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let timeout = Parameters::parse(head.uri.query(), &["timeout"])?.timeout()?;
    let (body, _room) = node.memory.body(body).await?;
    let Addition { id, addr, incarnation } = from_json(&body)?;
    let id = node_id(&id)?;
    checked_addr(&addr)?;
    refuse_outside(node).await?;
    // What this node knows of the members may be old. It is not, after a linearizable read.
    barrier(node, timeout).await?;
    let (info, known) = (node.info.clone(), node.info.members.known_peers());
    let (configuration, cluster, rows) = node
        .machine
        .inspect(move |machine| {
            let cluster = machine.state().cluster().map(RandomId);
            (machine.raft().configuration().clone(), cluster, rows(machine, &info.members, &info.addr))
        })
        .await?;
    let member = configuration.members().get(&id);
    let (has, voter) = (member.map(|member| MemberAddr::of(&member.addr)), member.is_some_and(|member| member.voter));
    let wanted = match &has {
        None => MemberAddr { addr, incarnation },
        Some(has) => {
            let is_other = match (has.incarnation, incarnation) {
                (Some(had), Some(wants)) => had != wants,
                (None, Some(wants)) => !known.may_take_name(id.as_str(), wants),
                (_, None) => false,
            };
            if is_other {
                let why = known.other_incarnation(id.as_str()).to_string();
                return Err(Refusal::new(StatusCode::CONFLICT, &why));
            }
            MemberAddr { addr, incarnation: incarnation.or(has.incarnation) }
        }
    };
    if let Some(why) = taken(&configuration, &rows, id, &wanted.addr) {
        return Err(Refusal::new(StatusCode::CONFLICT, &why));
    }
    let added = Added { id: id.as_str(), addr: &wanted.addr, voter, cluster };
    if has.as_ref() == Some(&wanted) {
        return Ok(json(StatusCode::OK, &added));
    }
    let change = Change::Add { node: id, addr: wanted.to_string() };
    administer(node, Administration::Change(change), timeout).await?;
    Ok(json(if has.is_none() { StatusCode::CREATED } else { StatusCode::OK }, &added))
}

async fn remove_member(node: &Node, request: &Request<Incoming>, id: &str) -> Result<Reply, Refusal> {
    let timeout = Parameters::parse(request.uri().query(), &["timeout"])?.timeout()?;
    let id = id_in_path(id)?;
    refuse_outside(node).await?;
    barrier(node, timeout).await?;
    let info = node.info.clone();
    let needed = node.machine.inspect(move |machine| needed(&rows(machine, &info.members, &info.addr), id)).await?;
    if let Some(why) = needed {
        return Err(Refusal::new(StatusCode::CONFLICT, &why).retry_after(1));
    }
    administer(node, Administration::Change(Change::Remove { node: id }), timeout).await?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "id": id.as_str(), "removed": true })))
}

/// A person says that the data directory which comes next under a name is the right one. That is for this node alone, and
/// needs no leader: there may be none until somebody vouches.
fn vouch(node: &Node, id: &str) -> Result<Reply, Refusal> {
    let id = id_in_path(id)?;
    match node.info.members.known_peers().vouch(id.as_str()) {
        Ok(true) => {
            tracing::warn!("told to take the next start of {id} that comes (POST /members/{id}/vouch)");
            let vouched = serde_json::json!({ "id": id.as_str(), "vouched": true, "node": node.info.id.as_str() });
            Ok(json(StatusCode::OK, &vouched))
        }
        Ok(false) => {
            let why = format!("{} knows no {id} whose starts it could forget", node.info.id);
            Err(Refusal::new(StatusCode::NOT_FOUND, &why))
        }
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &why.to_string())),
    }
}

async fn change_leader(node: &Node, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let timeout = Parameters::parse(head.uri.query(), &["timeout"])?.timeout()?;
    let (body, _room) = node.memory.body(body).await?;
    let Transfer { to } = if body.is_empty() { Transfer { to: None } } else { from_json(&body)? };
    let to = to.map(|to| node_id(&to)).transpose()?;
    refuse_outside(node).await?;
    administer(node, Administration::Transfer(to), timeout).await?;
    // It is done, even if the node stops before it can tell who leads.
    let leader = node.machine.inspect(|machine| machine.raft().leader()).await.unwrap_or(to);
    Ok(json(StatusCode::OK, &serde_json::json!({ "leader": leader.as_ref().map(NodeId::as_str) })))
}

/// Asks for what only a leader can do.
pub(super) async fn administer(node: &Node, what: Administration, timeout: Duration) -> Result<(), Refusal> {
    node.ask(Ask::Administer(what), timeout).await?.map_err(|error| refusal(node, error))
}

/// Waits until this node has applied all that was committed before.
async fn barrier(node: &Node, timeout: Duration) -> Result<(), Refusal> {
    let read = node.ask::<u64>(Ask::Read(Query::Version), timeout).await?;
    read.map(drop).map_err(|error| refusal(node, error))
}

/// Why it is not done. Where there is no leader, somebody may have said why: a node that was removed hears of it so.
fn refusal(node: &Node, error: RequestError) -> Refusal {
    match (error, node.info.members.known_peers().refusal()) {
        (RequestError::NoLeader, Some(why)) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &format!("no leader: {why}")).retry_after(1)
        }
        (error, _) => error.into(),
    }
}

/// A node that is in no cluster knows nobody to wait for.
async fn refuse_outside(node: &Node) -> Result<(), Refusal> {
    let info = node.info.clone();
    match node.machine.inspect(move |machine| info.outside(machine)).await? {
        Some(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &why).retry_after(1)),
        None => Ok(()),
    }
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
struct Transfer {
    to: Option<String>,
}

#[derive(Serialize)]
struct Added<'a> {
    id: &'a str,
    addr: &'a str,
    voter: bool,
    cluster: Option<RandomId>,
}

/// Why no node `id` can be at `addr`, beside these members: two that are dialled at one address are one at most.
fn taken(configuration: &Configuration, rows: &[Member], id: NodeId, addr: &str) -> Option<String> {
    let is_anywhere = |addr: &str| addr.parse::<SocketAddr>().is_ok_and(|addr| addr.ip().is_unspecified());
    let addrs = configuration.members().iter().map(|(id, member)| (id.as_str(), MemberAddr::of(&member.addr).addr));
    let places = addrs.chain(rows.iter().map(|row| (row.id.as_str(), row.addr.clone())));
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

fn id_in_path(id: &str) -> Result<NodeId, Refusal> {
    node_id(&decoded("the name", id)?)
}

fn checked_addr(addr: &str) -> Result<(), Refusal> {
    if is_addr(addr) {
        return Ok(());
    }
    let addr: String = addr.chars().take(80).collect();
    Err(Refusal::new(StatusCode::BAD_REQUEST, &format!("{addr:?} is no address of a member: give HOST:PORT")))
}
