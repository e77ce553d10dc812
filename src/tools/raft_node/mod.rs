//! `raft-node`: one member of a Raft key-value cluster.

use std::sync::Arc;

use crate::cli::{Common, Failure, Output, Tool, ready, signals};
use crate::http::machine::Halted;
use crate::http::raft::{Api, Dialler, Members, NodeInfo, Subscribers};
use crate::http::server;
use crate::kv::raft_kv::{Event, PROTOCOL};
use crate::net::disk::{self, Reserve};
use crate::net::driver::Driver;
use crate::net::full_disk;
use crate::net::identity::data_dir::Claim;
use crate::net::identity::random_id::RandomId;
use crate::net::links::Links;
use crate::net::node;
use crate::net::place::Place;
use crate::net::writer::{DiskMetrics, RecordKind, Writer};
use crate::raft::Record;
use crate::tools::entropy;
use crate::tools::node::open_data_dir;

mod addresses;
mod args;
mod dump;
mod force_new_cluster;
mod invocation;
mod membership;
mod peer;
mod recovery;

pub use args::Args;
use force_new_cluster::Survivor;
pub use invocation::Invocation;

impl Tool for Args {
    const NAME: &'static str = "raft-node";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        let stop = signals::stop_token()?;
        self.check()?;
        if self.force_new_cluster {
            return force_new_cluster::run(Survivor::of(&self), output).await;
        }
        ready::forget(self.ready_file.as_deref());
        let listener = self.bind().await?;
        let addr = listener.local_addr().map_err(|error| Failure::local(format!("cannot serve: {error}")))?;
        let place = self.place(addr).await;
        let advertised = match &place {
            Place::Said(at) => Some(at.clone()),
            Place::Listening(addr) => (!addr.ip().is_unspecified()).then(|| addr.to_string()),
        };
        let data_dir = self.data_dir();
        let is_new = std::fs::read_dir(&data_dir).map_or(true, |mut entries| entries.next().is_none());
        if is_new {
            self.check_join(addr, &place).await?; // otherwise it has joined, and need not again
        }
        let claim = Claim {
            tool: Self::NAME,
            protocol: PROTOCOL,
            id: self.id.as_str(),
            incarnation: RandomId(entropy()?),
            members: &self.first_members(advertised.as_deref()),
            moved: self.moved,
        };
        let mut data_dir = open_data_dir(&data_dir, &claim)?;
        let (mut log, machine, known) = self.recover(&mut data_dir, advertised.as_deref())?;
        let (configuration, known) = (machine.raft().configuration().clone(), Arc::new(known));

        let disk_metrics = DiskMetrics::default();
        let reserve = Reserve::default();
        reserve.is_for(machine.state().snapshot_bytes());
        log.keep(reserve.clone());
        known.watch(disk_metrics.clone());
        let writer = Writer::start(log, disk_metrics.clone(), RECORDS);
        let writer = writer.map_err(|error| Failure::local(format!("cannot start the disk thread: {error}")))?;
        let links = Links::default();
        let given = self.others().map(|peer| (peer.id, peer.addr.clone())).collect();
        let members = Members::new(self.id, configuration, given, known, links.clone());
        let members = Arc::new(members.map_err(|error| Failure::local(error.to_string()))?);
        let (subscribers, halted) = (Subscribers::default(), Halted::default());
        let on_event = {
            let (subscribers, output, members) = (subscribers.clone(), output.clone(), members.clone());
            move |event| {
                report_role(&output, &event);
                if let Event::MembersChanged(configuration) = &event {
                    membership::changed(&members, configuration);
                }
                subscribers.on_event(event);
            }
        };
        let (driver, handle) = Driver::new(machine, entropy()?, self.busy_poll, writer, links, on_event);

        let info = NodeInfo {
            id: self.id,
            names: self.names(advertised.as_deref()),
            addr: advertised.unwrap_or_else(|| addresses::likely(addr).to_string()),
            members: members.clone(),
            may_cut: self.cut,
            disk: disk_metrics.clone(),
            stale_reads: Default::default(),
            reserve: reserve.clone(),
        };
        tokio::spawn(addresses::look_out(place.clone(), self.others().map(|peer| peer.addr.clone()).collect()));
        let dialler = Dialler { id: self.id, place, members };
        tokio::spawn(membership::begin(handle.clone(), dialler.members.clone()));
        tokio::spawn(membership::learn_cluster(handle.clone(), dialler.members.clone()));
        tokio::spawn(membership::follow(dialler.clone()));
        let api = Api::new(handle.clone(), info, subscribers.clone(), first_request()?, halted.clone());
        let (asked, shortened) = (handle.clone(), api.clone());
        tokio::spawn(full_disk::compact(
            reserve,
            async move || asked.inspect(|machine| machine.state().snapshot_bytes()).await,
            async move || shortened.compact().await,
        ));
        let server = tokio::spawn(server::serve(listener, api.clone(), stop.clone()));

        ready::announce(output, Self::NAME, Some(self.id.as_str()), addr, self.ready_file.as_deref())?;
        if let Some(at) = self.join {
            tokio::spawn(membership::join(at, handle, dialler, output.clone()));
        }

        let (watching, patience) = (subscribers.clone(), *self.election_timeout.end());
        let farewell = async move {
            ready::stopping();
            watching.dismiss_watchers();
            api.transfer_leadership(patience).await;
            if let Some(why) = disk_metrics.stands_still() {
                tracing::warn!("{why}: what waits for it is not waited for");
                watching.give_up();
            }
        };
        let halt = |error: &disk::Error| {
            tracing::error!("{error}; refusing all requests until then"); // another node takes over
            drop(halted.set(error.to_string()));
            subscribers.give_up();
        };
        let ended = node::run(driver, server, stop, farewell, halt).await;
        ended.map_err(|error| Failure::local(error.to_string()))
    }
}

/// A log may begin anew with a snapshot, once all of it is there.
const RECORDS: RecordKind<Record> = RecordKind {
    entries: Record::entries,
    begins: |record| matches!(record, Record::SnapshotBegin(_)),
    completes: |record| matches!(record, Record::SnapshotEnd),
};

/// For programs: who leads, as it changes. People read it in the log.
fn report_role(output: &Output, event: &Event) {
    if let (true, Event::RoleChanged { role, term, leader }) = (output.is_json(), event) {
        let leader = leader.map(|leader| leader.as_str().to_owned());
        let event = serde_json::json!({ "event": "role", "state": role.as_str(), "term": term.0, "leader": leader });
        let _ = output.line(&event.to_string()); // a server does not stop because nobody listens
    }
}

/// Request numbers of one life are larger than those of earlier lives: they begin at the wall clock's nanoseconds, and no
/// node takes a request a nanosecond. A clock that was set back costs at most a forwarded write its answer.
fn first_request() -> Result<u64, Failure> {
    #[expect(clippy::disallowed_methods, reason = "names requests; nothing is decided by it")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.map_or(0, |since| since.as_nanos() as u64))
}
