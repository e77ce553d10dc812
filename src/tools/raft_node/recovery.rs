//! A node from its log.

use std::path::Path;

use super::entropy;
use crate::cli::Failure;
use crate::kv::RaftKv;
use crate::kv::raft_kv::Recovery;
use crate::net::disk::{Log, Options};
use crate::raft::{Config, Record};
use crate::wire::Wire;

/// The log, and the node that its records make: a segment of them is in memory at a time.
pub(super) fn recover(config: Config, snapshot_every: u64, dir: &Path) -> Result<(Log, RaftKv), Failure> {
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
