//! `udp-listen`: see [`netbelt::tools::udp_listen`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::udp_listen::Args>()
}
