//! A partition on request, to show or test what it does: `POST /cut {"peers":["n4","n5"]}` makes this node ignore those
//! peers, and hear all others again. Only a node that was started with `--cut`, on loopback, has it.

use std::collections::BTreeSet;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;

use super::memory::Memory;
use super::reply::{Refusal, Reply, json};
use super::request::{from_json, node_id};
use crate::node_id::NodeId;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    peers: Vec<String>,
}

/// Has `ignore` these peers ignored.
pub(super) async fn cut(
    memory: &Memory,
    request: Request<Incoming>,
    ignore: impl FnOnce(BTreeSet<NodeId>),
) -> Result<Reply, Refusal> {
    let (body, _room) = memory.body(request.into_body()).await?;
    let Cut { peers } = from_json(&body)?;
    let peers = peers.iter().map(|peer| node_id(peer)).collect::<Result<BTreeSet<_>, _>>()?;
    let names: Vec<_> = peers.iter().map(|peer| peer.as_str().to_owned()).collect();
    tracing::warn!("told to ignore {}", if names.is_empty() { "nobody".to_owned() } else { names.join(", ") });
    ignore(peers);
    Ok(json(StatusCode::OK, &serde_json::json!({ "cut": names })))
}
