//! `/kv`: keys set, deleted, read and listed.

use hyper::Request;
use hyper::body::{Bytes, Incoming};

use super::node::Node;
use crate::http::kv::items::{deleted, item, listing, not_found, not_written};
use crate::http::kv::keys::{condition_of, key_in_path, limit_of, session_of, set_in};
use crate::http::reply::{Refusal, Reply};
use crate::http::request::Parameters;
use crate::kv::command::{Operation, Outcome, SessionId, SessionRequest, Versioned};
use crate::kv::raft_kv::{Ask, Query};

pub(super) async fn set(node: &Node, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let parameters = Parameters::parse(head.uri.query(), &["timeout"])?;
    let condition = condition_of(&head.headers)?;
    let session = session_of(&head.headers)?;
    let (body, room) = node.memory.body(body).await?;
    let (key, value, condition) = set_in(&body, condition)?;
    let operation = Operation::Set { key: key.clone(), value: value.clone(), condition };
    Ok(match write(node, session, operation, &parameters).await? {
        Outcome::Set { version } => node.memory.with_room_of(room, item(&key, &value, version)),
        other => not_written(&node.memory, &key, &other),
    })
}

pub(super) async fn delete(node: &Node, request: &Request<Incoming>, key: &str) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["timeout"])?;
    let key = key_in_path(key)?;
    let operation = Operation::Delete { key: key.clone(), condition: condition_of(request.headers())? };
    Ok(match write(node, session_of(request.headers())?, operation, &parameters).await? {
        Outcome::Deleted { existed } => deleted(&key, existed),
        other => not_written(&node.memory, &key, &other),
    })
}

pub(super) async fn get(node: &Node, request: &Request<Incoming>, key: &str) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["consistency", "timeout"])?;
    let key = key_in_path(key)?;
    Ok(match node.read(Query::Get { key: key.clone() }, &parameters).await?? {
        Some(Versioned { value, version }) => item(&key, &value, version),
        None => not_found(&key),
    })
}

pub(super) async fn list(node: &Node, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let names = ["prefix", "after", "limit", "consistency", "timeout"];
    let parameters = Parameters::parse(request.uri().query(), &names)?;
    let bytes = |name| parameters.get(name).map(|value| Bytes::from(value.to_owned()));
    let limit = limit_of(&parameters)?;
    let query = Query::List { prefix: bytes("prefix").unwrap_or_default(), after: bytes("after"), limit };
    Ok(listing(&node.read(query, &parameters).await??))
}

async fn write(
    node: &Node,
    session: Option<SessionId>,
    operation: Operation,
    parameters: &Parameters<'_>,
) -> Result<Outcome, Refusal> {
    let request = SessionRequest { session, operation };
    Ok(node.ask(Ask::Write(request.encode()), parameters.timeout()?).await??)
}
