//! Results on stdout: text for people, JSON lines for programs. Every line is flushed.

use std::io::{self, ErrorKind, StdoutLock, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::{Failure, Kind, escape};

/// Prints results.
#[derive(Clone, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON lines, or text.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether it prints JSON lines.
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one result in the form that was asked for.
    ///
    /// # Errors
    /// When stdout is closed or cannot be written.
    pub fn result(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json {
            self.line(&serde_json::to_string(json).expect("results have string keys"))
        } else {
            self.line(&text())
        }
    }

    /// Prints a line as it is.
    ///
    /// # Errors
    /// When stdout is closed or cannot be written.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// When stdout is closed or cannot be written.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.raw(|stdout| stdout.write_all(bytes))
    }

    /// Prints what `write` writes, in one piece, as it is.
    ///
    /// # Errors
    /// When stdout is closed or cannot be written.
    pub fn raw(&self, write: impl FnOnce(&mut StdoutLock<'_>) -> io::Result<()>) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = write(&mut stdout).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::new(Kind::ClosedPipe, ""),
            _ => Failure::local(format!("cannot write to stdout: {error}")),
        })
    }

    /// Says on stderr, and to programs on stdout, what `tool` failed in; gives the exit code.
    pub(super) fn failure(&self, tool: &str, Failure { kind, message }: &Failure) -> ExitCode {
        if *kind != Kind::ClosedPipe && !message.is_empty() {
            // With stderr closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "{tool}: {}", escape::harmless(message));
            self.error(*kind, message);
        }
        ExitCode::from(kind.code())
    }

    /// Tells programs about a failure.
    pub(super) fn error(&self, kind: Kind, message: &str) {
        if self.json {
            let event = serde_json::json!({ "event": "error", "kind": kind.as_str(), "message": message });
            let _ = self.line(&event.to_string()); // the failure itself is what counts
        }
    }
}
