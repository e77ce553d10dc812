//! `raft-ctl members`, `raft-ctl transfer` and `raft-ctl cut`.

use clap::Subcommand;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Ask, Cluster, encoded};
use crate::cli::{Failure, Kind, Output, args};
use crate::http::client::Answer;
use crate::raft::NodeId;

/// What to do with the members; nothing prints them.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Change {
    /// Add a member, or tell where one is; it votes as soon as it has caught up
    Add {
        /// Its name and where it is. `raft-node --join` does the same by itself
        #[arg(value_name = "ID=HOST:PORT", value_parser = member)]
        member: (NodeId, String),
    },
    /// Remove a member
    Remove {
        /// Its name
        id: NodeId,
    },
}

fn member(text: &str) -> Result<(NodeId, String), String> {
    let (id, addr) = text.split_once('=').ok_or("must be ID=HOST:PORT")?;
    let id = id.parse().map_err(|error: crate::raft::InvalidNodeId| error.to_string())?;
    Ok((id, args::address(addr)?))
}

/// Prints or changes the members.
pub(super) async fn members(cluster: &Cluster, change: Option<Change>, output: &Output) -> Result<(), Failure> {
    match change {
        None => print(cluster, output).await,
        Some(Change::Add { member: (id, addr) }) => {
            let body = json!({ "id": id.as_str(), "addr": addr });
            let answer = cluster.ask(change_of(Method::POST, "/members".to_owned(), &body)).await?;
            let is_new = answer.status == StatusCode::CREATED;
            output.result(&expect_ok(&answer)?, || {
                if is_new { format!("added {id} at {addr}") } else { format!("{id} is a member, at {addr}") }
            })
        }
        Some(Change::Remove { id }) => {
            let path = format!("/members/{}", encoded(id.as_str()));
            let answer = cluster.ask(change_of(Method::DELETE, path, &Value::Null)).await?;
            output.result(&expect_ok(&answer)?, || format!("removed {id}"))
        }
    }
}

/// Lets another node lead.
pub(super) async fn transfer(cluster: &Cluster, to: NodeId, output: &Output) -> Result<(), Failure> {
    let body = json!({ "to": to.as_str() });
    let answer = cluster.ask(change_of(Method::POST, "/leader".to_owned(), &body)).await?;
    output.result(&expect_ok(&answer)?, || format!("{to} leads"))
}

/// Makes a node ignore peers.
pub(super) async fn cut(cluster: &Cluster, peers: &[NodeId], output: &Output) -> Result<(), Failure> {
    let [node] = &cluster.nodes[..] else {
        return Err(Failure::usage("name the one node that is to ignore them: --nodes HOST:PORT"));
    };
    let names: Vec<_> = peers.iter().map(NodeId::as_str).collect();
    let answer = cluster.ask(change_of(Method::POST, "/cut".to_owned(), &json!({ "peers": names }))).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(Failure::new(Kind::Peer, format!("{node} cannot be cut off: start it with --cut")));
    }
    output.result(&expect_ok(&answer)?, || match &names[..] {
        [] => format!("{node} hears everybody"),
        names => format!("{node} ignores {}", names.join(", ")),
    })
}

async fn print(cluster: &Cluster, output: &Output) -> Result<(), Failure> {
    let answer = expect_ok(&cluster.ask(Ask::get("/members", false)).await?)?;
    if !output.is_json() {
        output.line(&format!("{:<12} {:<22} {:<8}", "NODE", "ADDRESS", "ROLE"))?;
    }
    for member in answer["members"].as_array().map(Vec::as_slice).unwrap_or_default() {
        output.result(member, || {
            let text = |name: &str| member[name].as_str().unwrap_or("-").to_owned();
            let role = if member["voter"] == json!(true) { "voter" } else { "learner" };
            format!("{:<12} {:<22} {role}", text("id"), text("addr"))
        })?;
    }
    Ok(())
}

fn change_of(method: Method, path: String, body: &Value) -> Ask {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    Ask { method, path, body, name: None, if_version: None } // done twice, it is done
}

fn expect_ok(answer: &Answer) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = body["error"].as_str().unwrap_or("an answer without a reason");
    let kind = match answer.status {
        StatusCode::OK | StatusCode::CREATED => return Ok(body),
        StatusCode::NOT_FOUND => Kind::No,
        StatusCode::SERVICE_UNAVAILABLE => Kind::NoLeader,
        StatusCode::GATEWAY_TIMEOUT => Kind::Deadline,
        _ => Kind::Peer,
    };
    Err(Failure::new(kind, format!("{error} (raft-ctl members shows who is a member)")))
}
