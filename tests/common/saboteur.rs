//! System calls that fail or take long, by strace.

use std::process::{Command, Stdio};

use super::{Node, Process};

/// Tampers with the system calls of a node from now on, as long as it is there: `what` is an injection of strace.
pub(crate) struct Saboteur(pub(crate) Process);

impl Saboteur {
    /// Attaches to every thread of the node; nothing where that cannot be done.
    pub(crate) fn attach(node: &Node, what: &str) -> Option<Self> {
        if !Command::new("strace").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
        {
            eprintln!("skipped: there is no strace here");
            return None;
        }
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", &format!("inject={what}"), "-p", &node.process.pid().to_string()]);
        let process = Process::start(command);
        let said = process.err.line_with("strace");
        if !said.contains("attached") {
            eprintln!("skipped: {said}");
            return None;
        }
        Some(Self(process))
    }
}
