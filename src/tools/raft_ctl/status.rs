//! `raft-ctl status` and `raft-ctl leader`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cluster::{Ask, Cluster, cell};
use crate::cli::signals::{self, Signals};
use crate::cli::{Failure, Kind, Output, args, escape};
use crate::defaults::STATUS_PATIENCE;
use crate::http::client::ClientError;

/// How often.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    raft-ctl status\n  \
    raft-ctl status --watch --interval 200ms\n  \
    raft-ctl status --watch --json | jq -r '[.ts, .nodeId, .state, .term] | @tsv'")]
pub(super) struct Options {
    /// Print it again and again, until interrupted; on a terminal in place
    #[arg(long)]
    watch: bool,
    /// With --watch: how long to wait in between, at least 10ms [default: 1s]
    #[arg(long, value_name = "DURATION", requires = "watch", value_parser = interval)]
    interval: Option<Duration>,
}

/// A leader and where it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) id: String,
    pub(super) addr: String,
}

/// Prints a row for each node that was named or that a named node knows: once, or again and again.
pub(super) async fn run(cluster: &Cluster, options: &Options, output: &Output) -> Result<(), Failure> {
    if options.watch {
        return watch(cluster, options.interval.unwrap_or(Duration::from_secs(1)), output).await;
    }
    let nodes = signals::interruptible(async { Ok(all(cluster, STATUS_PATIENCE).await) }).await?;
    if !output.is_json() {
        output.line(&HEADINGS)?;
    }
    for (addr, status) in &nodes {
        output.result(&json_of(addr, status), || row(addr, status, &nodes))?;
    }
    if !output.is_json() {
        warnings(&nodes).iter().try_for_each(|warning| output.line(warning))?;
    }
    if nodes.values().all(Result::is_err) {
        return Err(Failure::new(Kind::Unreachable, "no node answers (are they running? name them with --nodes)"));
    }
    Ok(())
}

/// What a terminal does when it is sent this: goes to its upper left corner, and forgets what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Prints the table until a signal comes. Nodes that do not answer are what one watches for.
async fn watch(cluster: &Cluster, interval: Duration, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let in_place = std::io::stdout().is_terminal() && !is_dumb && !output.is_json();
    // A node that does not answer is not to hold the others up, and may be slow all the same.
    let patience = interval.clamp(STATUS_PATIENCE / 4, STATUS_PATIENCE);
    let mut rounds = 0_u64;
    let ended = loop {
        let round = async {
            let next = Instant::now() + interval;
            let nodes = all(cluster, patience).await;
            let ts = now();
            if output.is_json() {
                for (addr, status) in &nodes {
                    let mut line = json!({ "event": "status", "ts": ts });
                    let fields = line.as_object_mut().expect("it is an object");
                    fields.extend(json_of(addr, status).as_object().cloned().unwrap_or_default());
                    output.line(&line.to_string())?;
                }
            } else {
                let rows = nodes.iter().map(|(addr, status)| row(addr, status, &nodes)).chain(warnings(&nodes));
                let rows = rows.map(|row| row + "\n");
                let table = if in_place {
                    let ends = format!("every {}, Ctrl-C ends", humantime::format_duration(interval));
                    format!("{CLEAR}{ts}  {ends}\n\n{}\n{}", *HEADINGS, rows.collect::<String>())
                } else if rounds == 0 {
                    format!(
                        "{:<24}  {}\n{}",
                        "TIME",
                        *HEADINGS,
                        rows.map(|row| format!("{ts}  {row}")).collect::<String>()
                    )
                } else {
                    rows.map(|row| format!("{ts}  {row}")).collect()
                };
                output.bytes(table.as_bytes())?;
            }
            rounds += 1;
            tokio::time::sleep_until(next).await;
            Ok(())
        };
        tokio::select! {
            printed = round => printed?,
            signal = signals.stop() => break signal,
        }
    };
    if output.is_json() {
        output.line(&json!({ "event": "summary", "rounds": rounds, "interrupted": true }).to_string())?;
    }
    Err(Failure::new(Kind::Interrupted { signal: ended }, ""))
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = args::duration(text)?;
    if interval < Duration::from_millis(10) { Err("at least 10ms".to_owned()) } else { Ok(interval) }
}

fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "a person wants to know when it was so")]
    let now = SystemTime::now();
    humantime::format_rfc3339_millis(now).to_string()
}

static HEADINGS: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    format!(
        "{:<12} {:<22} {:<10} {:>6} {:<12} {:>10} {:>10} {:>8}  HEALTH",
        "NODE", "ADDRESS", "STATE", "TERM", "LEADER", "LAST", "COMMIT", "KEYS"
    )
});

/// What is known of each node that was asked, by address.
type Nodes = BTreeMap<String, Result<Value, Silence>>;

/// Why a node says nothing.
#[derive(Debug)]
pub(super) struct Silence {
    /// It is connected, and does not answer.
    is_stuck: bool,
    why: String,
}

fn json_of(addr: &str, status: &Result<Value, Silence>) -> Value {
    match status {
        Ok(status) => {
            let mut json = status.clone();
            json["addr"] = json!(addr);
            json
        }
        Err(silence) => json!({ "nodeId": null, "addr": addr, "state": "unreachable", "health": silence.why }),
    }
}

fn row(addr: &str, status: &Result<Value, Silence>, nodes: &Nodes) -> String {
    match status {
        Ok(status) => {
            let number = |name: &str| status[name].as_u64().map_or("-".to_owned(), |number| number.to_string());
            format!(
                "{:<12} {:<22} {:<10} {:>6} {:<12} {:>10} {:>10} {:>8}  {}",
                cell(&status["nodeId"]),
                escape::escaped(addr),
                cell(&status["state"]),
                number("term"),
                cell(&status["leaderId"]),
                number("lastIndex"),
                number("commitIndex"),
                number("keys"),
                cell(&status["health"])
            )
        }
        Err(silence) => {
            let known = members_in(nodes).find(|member| member["addr"] == *addr);
            let id = known.map_or_else(|| "-".into(), |member| cell(&member["id"]));
            let state = if silence.is_stuck { "no answer" } else { "down" };
            format!("{id:<12} {:<22} {state:<10} {}", escape::escaped(addr), escape::escaped(&silence.why))
        }
    }
}

/// What each node warns of.
fn warnings(nodes: &Nodes) -> Vec<String> {
    let of = |status: &Value| {
        let warnings = status["warnings"].as_array().into_iter().flatten();
        warnings.map(|warning| format!("{} warns: {}", cell(&status["nodeId"]), cell(warning))).collect::<Vec<_>>()
    };
    nodes.values().flatten().flat_map(of).collect()
}

fn members_in(nodes: &Nodes) -> impl Iterator<Item = &Value> {
    nodes.values().flatten().filter_map(|status| status["members"].as_array()).flatten()
}

/// The leader of the newest term that any node reports.
pub(super) async fn leader(cluster: &Cluster) -> Result<Leader, Failure> {
    let statuses = all(cluster, STATUS_PATIENCE).await;
    if statuses.values().all(Result::is_err) {
        let why = statuses.into_values().find_map(Result::err).map(|silence| silence.why).unwrap_or_default();
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

/// The status of every node that was named, and of every node these know. All are asked at once, and those that others tell
/// of as soon as they do. Each has `patience`, unless the command line says otherwise.
async fn all(cluster: &Cluster, patience: Duration) -> Nodes {
    let patience = cluster.given_timeout.unwrap_or(patience);
    let (mut nodes, mut asked, mut answers) = (Nodes::new(), BTreeSet::new(), JoinSet::new());
    let mut to_ask = cluster.nodes.clone();
    loop {
        for addr in to_ask.drain(..) {
            if asked.insert(addr.clone()) {
                let cluster = cluster.clone();
                answers.spawn(async move { (addr.clone(), of(&cluster, &addr, patience).await) });
            }
        }
        let Some(answer) = answers.join_next().await else { return nodes };
        let (addr, status) = answer.expect("to ask does not panic");
        let members = status.as_ref().ok().and_then(|status| status["members"].as_array()).into_iter().flatten();
        to_ask.extend(members.filter_map(|member| member["addr"].as_str()).map(str::to_owned));
        nodes.insert(addr, status);
    }
}

/// The status of the node at `addr`, if it tells it within `patience`.
pub(super) async fn of(cluster: &Cluster, addr: &str, patience: Duration) -> Result<Value, Silence> {
    let silent = |why: String| Silence { is_stuck: false, why };
    let no_answer = || Silence {
        is_stuck: true,
        why: format!("{addr} did not answer within {}", humantime::format_duration(patience)),
    };
    let ask = Ask::get("/status", false);
    let answer = match tokio::time::timeout(patience, cluster.ask_node(addr, &ask, patience)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(ClientError::TimedOut { .. })) | Err(_) => return Err(no_answer()),
        Ok(Err(error)) => return Err(silent(error.to_string())),
    };
    if answer.status != StatusCode::OK {
        return Err(silent(format!("{addr} answers {}", answer.status)));
    }
    let status = serde_json::from_slice(&answer.body);
    status.map_err(|error| silent(format!("{addr} does not answer as a raft-node: {error}")))
}
