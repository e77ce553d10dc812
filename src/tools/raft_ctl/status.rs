//! `raft-ctl status` and `raft-ctl leader`.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Ask, Cluster};
use crate::cli::{Failure, Kind, Output};

/// A leader and where it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) id: String,
    pub(super) addr: String,
}

/// Prints a row for each node that was named or that a named node knows.
pub(super) async fn print(cluster: &Cluster, output: &Output) -> Result<(), Failure> {
    let rows = all(cluster).await;
    if !output.is_json() {
        output.line(&format!(
            "{:<12} {:<22} {:<10} {:>6} {:<12} {:>10} {:>10} {:>8}  HEALTH",
            "NODE", "ADDRESS", "STATE", "TERM", "LEADER", "LAST", "COMMIT", "KEYS"
        ))?;
    }
    for (addr, status) in &rows {
        match status {
            Ok(status) => {
                let mut json = status.clone();
                json["addr"] = json!(addr);
                output.result(&json, || {
                    let text = |name: &str| status[name].as_str().unwrap_or("-").to_owned();
                    let number = |name: &str| status[name].as_u64().map_or("-".to_owned(), |number| number.to_string());
                    format!(
                        "{:<12} {:<22} {:<10} {:>6} {:<12} {:>10} {:>10} {:>8}  {}",
                        text("nodeId"),
                        addr,
                        text("state"),
                        number("term"),
                        text("leaderId"),
                        number("lastIndex"),
                        number("commitIndex"),
                        number("keys"),
                        text("health")
                    )
                })?;
            }
            Err(why) => {
                let json = json!({ "nodeId": null, "addr": addr, "state": "unreachable", "health": why });
                output.result(&json, || format!("{:<12} {addr:<22} {:<10} {why}", "-", "down"))?;
            }
        }
    }
    if rows.values().all(Result::is_err) {
        return Err(Failure::new(Kind::Unreachable, "no node answers (are they running? name them with --nodes)"));
    }
    Ok(())
}

/// The leader of the newest term that any node reports.
pub(super) async fn leader(cluster: &Cluster) -> Result<Leader, Failure> {
    let statuses = all(cluster).await;
    if statuses.values().all(Result::is_err) {
        let why = statuses.into_values().find_map(Result::err).unwrap_or_default();
        let remedy = "is raft-node running there? name others with --nodes";
        return Err(Failure::new(Kind::Unreachable, format!("no node answers: {why} ({remedy})")));
    }
    let known = statuses.values().flatten().filter(|status| !status["leaderId"].is_null());
    let newest = known.max_by_key(|status| status["term"].as_u64());
    newest
        .and_then(leader_in)
        .ok_or_else(|| Failure::new(Kind::NoLeader, "there is no leader (raft-ctl status shows why)"))
}

fn leader_in(status: &Value) -> Option<Leader> {
    let id = status["leaderId"].as_str()?;
    let member = status["members"].as_array()?.iter().find(|member| member["id"] == id)?;
    Some(Leader { id: id.to_owned(), addr: member["addr"].as_str()?.to_owned() })
}

/// The status of every node that was named, and of every node these know, by address.
async fn all(cluster: &Cluster) -> BTreeMap<String, Result<Value, String>> {
    let mut statuses = BTreeMap::new();
    let mut asked = cluster.nodes.clone();
    while !asked.is_empty() {
        let mut answers = JoinSet::new();
        for addr in asked.drain(..) {
            let cluster = cluster.clone();
            answers.spawn(async move { (addr.clone(), status(&cluster, &addr).await) });
        }
        statuses.extend(answers.join_all().await);
        let members = statuses.values().flatten().filter_map(|status| status["members"].as_array()).flatten();
        let addrs = members.filter_map(|member| member["addr"].as_str());
        asked = addrs.filter(|addr| !statuses.contains_key(*addr)).map(str::to_owned).collect();
        asked.sort_unstable();
        asked.dedup();
    }
    statuses
}

async fn status(cluster: &Cluster, addr: &str) -> Result<Value, String> {
    let answer = cluster
        .ask_node(addr, &Ask::get("/status", false), cluster.timeout)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("{addr} answers {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| format!("{addr} does not answer as a raft-node: {error}"))
}
