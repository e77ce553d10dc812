//! What the tools share that are nodes: random numbers, and the data directory.

use std::path::Path;

use crate::cli::{Failure, origin};
use crate::net::identity::data_dir::{Claim, DataDir, DataDirError};

/// A random number of the system's.
pub(super) fn entropy() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::local(format!("the system gives no random numbers: {error}")))
}

/// Opens the directory that `--data-dir` names, or `DATA_DIR`.
pub(super) fn open_data_dir(path: &Path, claim: &Claim<'_>) -> Result<DataDir, Failure> {
    DataDir::open(path, claim).map_err(|error| {
        let failure = data_dir_failure(&error);
        match origin::name("--data-dir", "DATA_DIR") {
            variable @ "DATA_DIR" => Failure::local(format!("{variable} (environment): {failure}")),
            _ => failure,
        }
    })
}

/// What is wrong with a data directory, and what to do about it.
pub(super) fn data_dir_failure(error: &DataDirError) -> Failure {
    let remedy = match error {
        DataDirError::InUse(_) => {
            ": stop that one first, or, if you mean another, name that with --data-dir".to_owned()
        }
        DataDirError::Foreign(_) => ": choose an empty or a new --data-dir".to_owned(),
        DataDirError::Other { id, .. } => format!(": choose another --data-dir, or start it as {id}"),
        DataDirError::Copied { id, .. } => format!(
            ": start {id} with the original, or this one with another --id and an empty --data-dir. If the original was moved \
             here and is gone for good, start once with --moved; never do that with a backup that {id} has outlived"
        ),
        DataDirError::Io { .. }
        | DataDirError::Nothing(_)
        | DataDirError::Interrupted(_)
        | DataDirError::Newer { .. }
        | DataDirError::Damaged { .. } => String::new(),
    };
    Failure::local(format!("{error}{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_a_copy_is_told_what_to_do_with_one_that_was_moved() {
        let copied = DataDirError::Copied { path: "n1.raft".into(), id: "n1".to_owned() };
        let said = data_dir_failure(&copied).to_string();
        assert!(said.starts_with(&copied.to_string()) && said.contains("--moved"), "{said}");
    }
}
