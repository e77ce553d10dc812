//! `raft-ctl`: see [`netbelt::tools::raft_ctl`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::raft_ctl::Args>()
}
