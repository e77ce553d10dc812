//! What others agree on: answers that etcd-io/raft (Apache-2.0) gives, asked of the machine here.
//!
//! The vectors are not part of this package. They are looked for in `$NETBELT_VECTORS`, then in `../shared/vectors`; where
//! neither is, a test says that it is skipped.

mod interaction;
mod quorum;
mod transcript;

use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder `below` the vectors. None, and a word about it, where there are no vectors.
fn vectors(below: &str) -> Option<PathBuf> {
    let given = std::env::var_os("NETBELT_VECTORS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let found = given.into_iter().chain([beside]).map(|place| place.join(below)).find(|place| place.is_dir());
    if found.is_none() {
        say(&format!("SKIPPED: no {below} in $NETBELT_VECTORS or ../shared/vectors"));
    }
    found
}

/// Past the test harness, which keeps what a passing test prints to itself.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("stderr takes a line");
}
