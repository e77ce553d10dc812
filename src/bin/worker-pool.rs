//! `worker-pool`: see [`netbelt::tools::worker_pool`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::worker_pool::Args>()
}
