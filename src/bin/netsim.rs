//! `netsim`: see [`netbelt::tools::netsim`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::netsim::Args>()
}
