//! A node from its data directory.

use std::path::Path;

use super::{Args, entropy};
use crate::cli::Failure;
use crate::defaults::SNAPSHOT_EVERY;
use crate::kv::RaftKv;
use crate::kv::raft_kv::Recovery;
use crate::net::acquaintances::{Acquaintances, Token};
use crate::net::data_dir::{DataDir, DataDirError};
use crate::net::disk::{Log, Options};
use crate::net::starts::Starts;
use crate::raft::{Config, HardState, Index, Record};
use crate::wire::Wire;

impl Args {
    /// The log, the machine that it makes, and whom the node has met. One that has not begun is as good as empty, and begins
    /// with the members that the command line names now, if it names any.
    pub(super) fn recover(
        &self,
        data_dir: &mut DataDir,
        advertised: Option<&str>,
    ) -> Result<(Log, RaftKv, Acquaintances), Failure> {
        let local = |error: DataDirError| Failure::local(error.to_string());
        let recover = |data_dir: &DataDir| {
            let config = self.config(data_dir, advertised)?;
            recover(config, self.snapshot_every.unwrap_or(SNAPSHOT_EVERY), &data_dir.log())
        };
        let (mut log, mut machine) = recover(data_dir)?;
        let mut known = Starts::begin(data_dir.path(), Token(entropy()?))
            .and_then(|starts| Acquaintances::open(data_dir.path(), self.id.as_str(), data_dir.incarnation(), starts))
            .map_err(local)?;
        if data_dir.is_founding() && is_untouched(&machine) && !known.has_waited() {
            let members = self.first_members(advertised);
            if self.names_members() && *data_dir.first_members() != members {
                drop((log, machine));
                data_dir.begin_with(&members).map_err(local)?;
                (log, machine) = recover(data_dir)?;
            }
            if data_dir.is_founding() {
                let peers = data_dir.first_members().keys().filter(|id| *id != self.id.as_str()).cloned().collect();
                known = known.waiting_for(peers, self.peers_have_no_data);
            }
        } else if self.peers_have_no_data {
            tracing::info!("--peers-have-no-data is of no use any more: {} has begun", self.id);
        }
        self.check_members(data_dir, machine.raft().configuration())?;
        Ok((log, machine, known))
    }
}

/// Whether it has promised nothing to anybody.
fn is_untouched(machine: &RaftKv) -> bool {
    let raft = machine.raft();
    raft.hard_state() == HardState::default() && raft.log().last().index == Index(0)
}

/// The log, and the node that its records make: a segment of them is in memory at a time.
fn recover(config: Config, snapshot_every: u64, dir: &Path) -> Result<(Log, RaftKv), Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::local(format!(
            "cannot start from the log in {}: {error}; restore it from a copy of the whole directory, or remove this member and \
             let a new one join in its place",
            dir.display()
        ))
    };
    let read = |mut recovery: Recovery| {
        let mut records =
            Log::open(dir, Options::new(entropy()?)).map_err(|error| Failure::local(error.to_string()))?;
        for (number, record) in records.by_ref().enumerate() {
            let record = Record::decode(record.map_err(|error| Failure::local(error.to_string()))?).map_err(|error| {
                Failure::local(format!(
                    "record {number} of the log in {} is whole but not understood ({error}): start the newer netbelt that wrote it",
                    dir.display()
                ))
            })?;
            recovery.push(record).map_err(|error| cannot(&error))?;
        }
        Ok((records, recovery))
    };
    let (mut records, mut recovery) = read(Recovery::new(config.initial.clone()))?;
    if let Some(snapshot) = recovery.lacks() {
        drop((records, recovery));
        (records, recovery) = read(Recovery::keeping(config.initial.clone(), snapshot))?;
    }
    let machine = recovery.finish(config, snapshot_every).map_err(|error| cannot(&error))?;
    let (log, _) = records.finish().map_err(|error| Failure::local(error.to_string()))?;
    Ok((log, machine))
}
