//! `raft-ctl members`, `raft-ctl transfer` and `raft-ctl cut`.

use clap::Subcommand;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::cluster::{Ask, Cluster, cell, encoded};
use crate::cli::escape::escaped;
use crate::cli::{Failure, Kind, Output, args};
use crate::http::client::Response;
use crate::node_id::NodeId;

/// What to do with the members.
#[derive(Clone, Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        raft-ctl members\n  \
        raft-ctl members --json | jq -r .addr\n  \
        raft-node --id n4 --listen 127.0.0.1:7004 --join 127.0.0.1:7001    # a new member adds itself\n  \
        raft-ctl members remove n4"
)]
pub(super) struct Options {
    /// Print what the asked node knows, which may be out of date: for when there is no leader
    #[arg(long)]
    stale: bool,
    #[command(subcommand)]
    change: Option<Change>,
}

/// What to change.
#[derive(Clone, Debug, Subcommand)]
enum Change {
    /// Add a member, or tell where one is that moved; it votes as soon as it runs and has caught up
    ///
    /// There is seldom need to: a node that is started with --join adds itself. One that was added so must be started with
    /// --join and an empty --data-dir all the same, since without --join it would be a cluster of its own.
    #[command(after_help = "Examples:\n  \
        raft-ctl members add n4=127.0.0.1:7004\n  \
        raft-node --id n4 --listen 127.0.0.1:7004 --join 127.0.0.1:7001    # what has to follow")]
    Add {
        /// Its name and where it is
        #[arg(value_name = "ID=HOST:PORT", value_parser = member)]
        member: (NodeId, String),
    },
    /// Remove a member; exit 1 when there is none of that name
    #[command(after_help = "Examples:\n  \
        raft-ctl members remove n3\n  \
        raft-ctl transfer n1 && raft-ctl members remove n3    # when n3 leads, and n1 shall")]
    Remove {
        /// Its name
        id: NodeId,
    },
    /// Have the nodes that --nodes names take the data directory of a member that they refuse as another copy
    ///
    /// Each node remembers the latest start of every other, and refuses a disk that was cloned, or put back to how it was before
    /// that start. When you know that the directory which runs now is the right one, say so to each node that refuses it: that one
    /// forgets the starts, and takes the next that comes. No leader is needed. The danger: what the directory has forgotten, a
    /// vote or a write that it acknowledged, is lost for good, and two copies that run at once may both be believed. So never do it
    /// for an image that is older than the last write, and never start another copy again. It is safer to remove the member and
    /// to let it join anew with an empty directory, as long as the others have a leader.
    #[command(after_help = "Examples:\n  \
        raft-ctl members vouch n3 --nodes 127.0.0.1:7001,127.0.0.1:7002")]
    Vouch {
        /// Its name
        id: NodeId,
    },
}

fn member(text: &str) -> Result<(NodeId, String), String> {
    let (id, addr) = text.split_once('=').ok_or("must be ID=HOST:PORT")?;
    let id = id.parse().map_err(|error: crate::node_id::InvalidNodeId| error.to_string())?;
    Ok((id, args::node_address(addr)?))
}

/// Prints or changes the members.
pub(super) async fn members(cluster: &Cluster, options: Options, output: &Output) -> Result<(), Failure> {
    match options.change {
        None => print(cluster, options.stale, output).await,
        Some(Change::Add { member: (id, addr) }) => {
            let body = json!({ "id": id.as_str(), "addr": addr });
            let answer = cluster.ask(change_of(Method::POST, "/members".to_owned(), &body)).await?;
            let is_new = answer.status == StatusCode::CREATED;
            let added = expect_ok(&answer)?;
            output.result(&added, || {
                if is_new { format!("added {id} at {addr}") } else { format!("{id} is a member, at {addr}") }
            })?;
            if added["voter"] == json!(false) {
                let at = &cluster.nodes[0];
                tracing::info!(
                    "{id} votes as soon as it has caught up; if it does not run yet: raft-node --id {id} --listen {addr} --join {at}"
                );
            }
            Ok(())
        }
        Some(Change::Remove { id }) => {
            let path = format!("/members/{}", encoded(id.as_str()));
            let answer = cluster.ask(change_of(Method::DELETE, path, &Value::Null)).await?;
            output.result(&expect_ok(&answer)?, || format!("removed {id}"))
        }
        Some(Change::Vouch { id }) => vouch(cluster, id, output).await,
    }
}

/// Has each of the nodes take the next start of that member: what they remember is their own affair.
async fn vouch(cluster: &Cluster, id: NodeId, output: &Output) -> Result<(), Failure> {
    for node in &cluster.nodes {
        let one = Cluster { nodes: vec![node.clone()], ..cluster.clone() };
        let path = format!("/members/{}/vouch", encoded(id.as_str()));
        let vouched = expect_ok(&one.ask(change_of(Method::POST, path, &Value::Null)).await?)?;
        output.result(&vouched, || format!("{node} takes the next start of {id} that comes"))?;
    }
    tracing::warn!("what the directory of {id} has forgotten is lost: never start another copy of it again");
    Ok(())
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

async fn print(cluster: &Cluster, stale: bool, output: &Output) -> Result<(), Failure> {
    let answer = expect_ok(&cluster.ask(Ask::get("/members", stale)).await?)?;
    if answer["members"].as_array().is_none_or(Vec::is_empty) {
        return Err(Failure::new(Kind::NoLeader, "the asked node knows no members: ask another one with --nodes"));
    }
    if !output.is_json() {
        output.line(&format!("{:<12} {:<22} ROLE", "NODE", "ADDRESS"))?;
    }
    for member in answer["members"].as_array().map(Vec::as_slice).unwrap_or_default() {
        output.result(member, || {
            let role = if member["voter"] == json!(true) { "voter" } else { "learner" };
            // From where the answering node stands.
            let link = if member["connected"] == json!(false) { ", not connected" } else { "" };
            format!("{:<12} {:<22} {role}{link}", cell(&member["id"]), cell(&member["addr"]))
        })?;
    }
    Ok(())
}

fn change_of(method: Method, path: String, body: &Value) -> Ask {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    Ask { method, path, body, name: None, if_version: None } // done twice, it is done
}

fn expect_ok(answer: &Response) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = escaped(body["error"].as_str().unwrap_or("an answer without a reason"));
    let (kind, remedy) = match answer.status {
        StatusCode::OK | StatusCode::CREATED => return Ok(body),
        StatusCode::NOT_FOUND => (Kind::No, " (raft-ctl members shows who is)"),
        StatusCode::SERVICE_UNAVAILABLE => (
            Kind::NoLeader,
            " (raft-ctl status shows which nodes are up, members --stale what one remembers; name others with --nodes)",
        ),
        StatusCode::GATEWAY_TIMEOUT => (Kind::Deadline, " (raft-ctl members and raft-ctl leader show what came of it)"),
        _ => (Kind::Peer, ""), // these say what to do
    };
    Err(Failure::new(kind, format!("{error}{remedy}")))
}
