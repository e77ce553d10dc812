//! `udp-send`: see [`netbelt::tools::udp_send`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::udp_send::Args>()
}
