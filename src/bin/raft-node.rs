//! `raft-node`: see [`netbelt::tools::raft_node`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::raft_node::Invocation>()
}
