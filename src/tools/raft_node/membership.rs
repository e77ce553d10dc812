//! What a node does about its cluster's members beside its machine: dials them, joins them, learns which cluster they are.

use std::pin::pin;
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::Args;
use crate::cli::{Output, Tool, origin};
use crate::defaults::{JOIN_PAUSE, JOIN_REMINDER, REQUEST_TIMEOUT};
use crate::http::client::Client;
use crate::http::raft::{self, Dialler, Members};
use crate::kv::RaftKv;
use crate::net::driver::{Handle, Stopped};
use crate::net::identity::random_id::RandomId;
use crate::net::link::{self, Outbox};
use crate::node_id::NodeId;
use crate::raft::Configuration;

/// The members are others now.
pub(super) fn changed(members: &Members, configuration: &Configuration) {
    let names: Vec<_> = configuration
        .members()
        .iter()
        .map(|(id, member)| format!("{id}{}", if member.voter { "" } else { " (learner)" }))
        .collect();
    tracing::info!("the members are {}", names.join(", "));
    if let Err(error) = members.set_configuration(configuration.clone()) {
        tracing::error!("{error}"); // the next start does it
    }
}

/// Keeps a link to every member.
pub(super) async fn follow(dialler: Dialler) {
    let keep_up = |to: NodeId, addr: String, outbox: Arc<Outbox>| {
        let dialler = dialler.clone();
        async move {
            let name = format!("{to} at {addr}");
            link::keep_up(&name, &outbox, || raft::dial(&addr, &dialler, to)).await;
        }
    };
    dialler.members.follow(keep_up).await;
}

/// Starts the machine once the node has begun: at once, unless its directory is new and its peers have yet to say that theirs
/// are, too. Says what it waits for, at each change and now and then.
pub(super) async fn begin(node: Handle<RaftKv>, members: Arc<Members>) {
    let known = members.known_peers();
    let mut progress = Progress::default();
    // What is missing at the very beginning is nobody's mistake: its peers start, too.
    if tokio::time::timeout(JOIN_PAUSE * 5, known.begins()).await.is_err() {
        loop {
            if let Some(waits) = known.waits_for() {
                progress.is(&waits, false);
            }
            if tokio::time::timeout(JOIN_PAUSE, known.begins()).await.is_ok() {
                break;
            }
        }
    }
    let _ = node.start().await; // it has stopped already
}

/// Remembers the cluster's number as soon as it is in the replicated state.
pub(super) async fn learn_cluster(node: Handle<RaftKv>, members: Arc<Members>) {
    let Ok(cluster) = node.until(|machine| machine.state().cluster()).await else { return };
    if let Err(error) = members.known_peers().set_cluster(RandomId(cluster)) {
        tracing::error!("{error}");
    }
}

/// Asks the node at `at` to add this one to its cluster, until it hears of members. Says so when it is one of them, and a
/// leader speaks to it: its own log may not know yet that it was removed.
pub(super) async fn join(at: String, node: Handle<RaftKv>, dialler: Dialler, output: Output) {
    let Dialler { id, members, .. } = &dialler;
    let (id, known) = (*id, members.known_peers());
    if !members.is_empty() {
        let join = origin::name("--join", "JOIN");
        tracing::info!("{join} is of no use any more: {id} is a member of a cluster");
    }
    let is_in = move |machine: &RaftKv| {
        let raft = machine.raft();
        raft.leader().is_some() && raft.configuration().contains(id)
    };
    let has_joined = match node.inspect(is_in).await {
        Ok(false) => ask_until(node.until(move |machine| is_in(machine).then_some(())), &at, &dialler).await,
        looked => looked.map(drop),
    };
    if has_joined.is_err() {
        return;
    }
    known.refused_by(&at, None);
    let cluster = known.cluster();
    let joined = json!({ "event": "joined", "id": id.as_str(), "cluster": cluster });
    let name = cluster.map_or("a cluster".to_owned(), |cluster| format!("cluster {cluster}"));
    let _ = output.result(&joined, || format!("raft-node {id} is a member of {name}")); // as for any event of a server
}

/// Asks again and again, until the node `is_in`, or has stopped.
async fn ask_until(
    is_in: impl Future<Output = Result<(), Stopped>>,
    at: &str,
    dialler: &Dialler,
) -> Result<(), Stopped> {
    let mut is_in = pin!(is_in);
    let mut progress = Progress::default();
    loop {
        let mut asked = pin!(ask_once(at, dialler, &mut progress));
        tokio::select! {
            biased;
            () = &mut asked => {}
            found = &mut is_in => {
                found?;
                asked.await; // what is answered tells which cluster that is, and where this node is in it
                return Ok(());
            }
        }
        if let Ok(found) = tokio::time::timeout(JOIN_PAUSE, &mut is_in).await {
            return found;
        }
    }
}

/// Asks, unless there are members already, and says what came of it.
async fn ask_once(at: &str, dialler: &Dialler, progress: &mut Progress) {
    let Dialler { id, members, .. } = dialler;
    let known = members.known_peers();
    if !members.is_empty() {
        known.refused_by(at, None);
        let why = known.refusal().map(|why| format!(": {why}")).unwrap_or_default();
        return progress.is(&format!("{id} waits for the leader of its cluster{why}"), why.is_empty());
    }
    match ask_to_join(at, dialler).await {
        Ok((cluster, addr)) => {
            known.refused_by(at, None);
            if let Err(error) = known.set_cluster(cluster) {
                tracing::error!("{error}");
            }
            let what = format!(
                "{at} adds {id} to cluster {cluster}, whose leader is to connect to {addr} (--advertise names another address)"
            );
            progress.is(&what, true);
        }
        Err(why) => {
            known.refused_by(at, Some(&why));
            progress.is(&format!("cannot join the cluster of {at}: {why}; trying again"), false);
        }
    }
}

/// Says how it goes: at each change, and now and then while nothing changes.
#[derive(Default)]
struct Progress {
    said: Option<(String, Instant)>,
}

impl Progress {
    fn is(&mut self, what: &str, is_good: bool) {
        let last = self.said.as_ref();
        match last.map(|(said, at)| (said == what, at.elapsed())) {
            Some((true, since)) if since < JOIN_REMINDER => return,
            Some((true, _)) => tracing::warn!("still: {what}"),
            Some((false, _)) | None if is_good => tracing::info!("{what}"),
            Some((false, _)) | None => tracing::warn!("{what}"),
        }
        self.said = Some((what.to_owned(), Instant::now()));
    }
}

/// Gives the cluster's number, and where it was told that this node is.
async fn ask_to_join(at: &str, dialler: &Dialler) -> Result<(RandomId, String), String> {
    let mut client = Client::connect(at, Args::NAME).await.map_err(|error| error.to_string())?;
    let (local, remote) = client.ends().ok_or("the connection broke at once")?;
    let addr = dialler.place.toward(local, remote).map_err(|why| why.to_string())?;
    let incarnation = dialler.members.known_peers().incarnation();
    let body = json!({ "id": dialler.id.as_str(), "addr": addr, "incarnation": incarnation });
    // A little longer than the node tries, which can then say what it lacks.
    let patience = REQUEST_TIMEOUT + JOIN_PAUSE;
    let answer = client.ask(Method::POST, "/members", Bytes::from(body.to_string()), &[], patience).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if !answer.status.is_success() {
        return Err(said["error"].as_str().unwrap_or("it does not say why").to_owned());
    }
    let cluster = said["cluster"].as_str().and_then(|cluster| cluster.parse().ok());
    let cluster = cluster.ok_or_else(|| "its cluster has no leader yet".to_owned())?;
    dialler.members.reached_at(addr.clone());
    Ok((cluster, addr))
}
