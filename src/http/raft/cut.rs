//! A partition on request, to show or test what it does: `POST /cut {"peers":["n4","n5"]}` makes this node ignore those
//! peers, and hear all others again. Only a node that was started with `--cut`, on loopback, has it.

use std::collections::BTreeSet;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Deserialize;

use super::members::node_id;
use super::node::Node;
use crate::http::reply::{Refusal, Reply, json};
use crate::http::request::from_json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    peers: Vec<String>,
}

pub(super) async fn cut(node: &Node, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (body, _room) = node.memory.body(request.into_body()).await?;
    let Cut { peers } = from_json(&body)?;
    let peers = peers.iter().map(|peer| node_id(peer)).collect::<Result<BTreeSet<_>, _>>()?;
    let names: Vec<_> = peers.iter().map(|peer| peer.as_str().to_owned()).collect();
    tracing::warn!("told to ignore {}", if names.is_empty() { "nobody".to_owned() } else { names.join(", ") });
    node.info.members.cut(peers);
    Ok(json(StatusCode::OK, &serde_json::json!({ "cut": names })))
}
