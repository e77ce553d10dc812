//! `tcp-echo`: see [`netbelt::tools::tcp_echo`].

use std::process::ExitCode;

fn main() -> ExitCode {
    netbelt::cli::main::<netbelt::tools::tcp_echo::Args>()
}
