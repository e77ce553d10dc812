//! `raft-node dump`: a backup of what a data directory holds.

use std::path::PathBuf;

use serde_json::json;

use super::args::Args;
use super::recovery;
use crate::cli::{Failure, Output, Tool, signals};
use crate::kv::State;
use crate::kv::backup::{Header, Writer};
use crate::net::identity::data_dir::{DataDirError, Remains};
use crate::net::identity::random_id::RandomId;
use crate::raft::Index;
use crate::tools::backup_target::{BackupTarget, is_stdout};
use crate::tools::node::data_dir_failure;

/// The subcommand.
pub(super) const NAME: &str = "dump";
/// What it does.
pub(super) const ABOUT: &str = "Back up what a data directory holds, without its node and without any leader";
/// Examples.
pub(super) const AFTER_HELP: &str = "Nothing in the directory is changed. The backup is one of raft-ctl snapshot --out, for raft-ctl restore.\n\n\
    Examples:\n  \
    raft-node dump --data-dir n1.raft --out n1.backup\n  \
    raft-node dump --data-dir n1.raft | zstd > n1.backup.zst\n  \
    raft-node dump --data-dir n1.raft --committed-only --json --out n1.backup\n\n\
    Exit codes: 0 done, 2 usage, 6 a node uses the directory, it is damaged, or the backup cannot be written";

/// What is to be backed up, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The directory, of a node that does not run; a copy of one does as well
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Write the backup to this file, or to stdout for -
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Leave out entries that the directory does not know to be committed. Without this they are in the backup: each write that
    /// was acknowledged and has come this far is among them, but so may be writes of which nobody was told, or that failed
    #[arg(long)]
    committed_only: bool,
}

pub(super) async fn run(options: &Options, output: &Output) -> Result<(), Failure> {
    signals::interruptible(dump(options.clone(), output)).await
}

async fn dump(options: Options, output: &Output) -> Result<(), Failure> {
    // Beside the runtime, whose thread hears the signals.
    let read = tokio::task::spawn_blocking(move || read(&options));
    let read = read.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let Dump { options, id, mut state, through, committed, last } = read?;
    let mut target = BackupTarget::open(&options.out, output)?;
    let header = Header { cluster: state.cluster(), version: state.store().version() };
    let (mut writer, begin) = Writer::begin(header);
    let mut bytes = 0;
    let mut write = |part: &[u8]| {
        bytes += part.len() as u64;
        target.write(part)
    };
    write(&begin)?;
    let view = state.open_view();
    while let Some(chunk) = state.next_chunk(view) {
        write(&writer.chunk(&chunk))?;
        write(&chunk)?;
        tokio::task::yield_now().await; // a signal ends it
    }
    write(&writer.end())?;
    target.finish()?;

    let (keys, version) = (state.store().len(), header.version);
    if committed < last {
        let (what, hint) = if options.committed_only {
            ("left out of the backup", "acknowledged writes may be among them")
        } else {
            ("in the backup", "--committed-only leaves them out")
        };
        tracing::warn!("not known to be committed, and {what}: {} ({hint})", entries(committed, last));
    }
    let said = format!("{keys} keys at version {version}, {bytes} bytes, through entry {} of {id}", through.0);
    if is_stdout(&options.out) {
        tracing::info!("{said}");
        return Ok(());
    }
    let file = options.out.display().to_string();
    let summary = json!({
        "event": "summary", "file": file, "id": id, "keys": keys, "version": version, "bytes": bytes,
        "cluster": header.cluster.map(RandomId), "through": through.0, "committed": committed.0, "last": last.0,
        "interrupted": false
    });
    output.result(&summary, || format!("{file}: {said}"))
}

/// What a directory holds.
struct Dump {
    options: Options,
    id: String,
    state: State,
    /// The last entry that is in the state, the last that is known to be committed, and the last that there is.
    through: Index,
    committed: Index,
    last: Index,
}

fn read(options: &Options) -> Result<Dump, Failure> {
    let remains = Remains::look(&options.data_dir, Args::NAME).map_err(|error| match error {
        DataDirError::InUse(dir) => Failure::local(format!(
            "a node uses {}: back that one up with raft-ctl snapshot --out (--stale, if it has no leader), or stop it",
            dir.display()
        )),
        error => data_dir_failure(&error),
    })?;
    let recovery::Found { machine, committed } = recovery::read(&remains)?;
    let last = machine.raft().log().last().index;
    let through = if options.committed_only { committed } else { last };
    let state = machine.into_state(through).map_err(|error| Failure::local(error.to_string()))?;
    Ok(Dump { options: options.clone(), id: remains.id().to_owned(), state, through, committed, last })
}

/// Those after one and up to another.
pub(super) fn entries(after: Index, last: Index) -> String {
    if last == after.next() { format!("entry {}", last.0) } else { format!("entries {} to {}", after.0 + 1, last.0) }
}
