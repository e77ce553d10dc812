//! Where results and traces go.

use std::fs::File;
use std::io::BufWriter;

use serde_json::Value;

use crate::cli::{Failure, Output};
use crate::sim::jsonl;
use crate::sim::trace::Moment;

/// The path that is no file.
const STDOUT: &str = "-";

/// Results go to stdout, and nowhere while that is for the trace.
pub(super) struct Results<'a> {
    output: &'a Output,
    trace: Option<&'a str>,
}

impl<'a> Results<'a> {
    /// The trace, if there is one, goes to this path.
    pub(super) const fn new(output: &'a Output, trace: Option<&'a str>) -> Self {
        Self { output, trace }
    }

    pub(super) fn is_json(&self) -> bool {
        self.output.is_json()
    }

    pub(super) fn result(&self, json: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.trace == Some(STDOUT) { Ok(()) } else { self.output.result(json, text) }
    }

    pub(super) fn line(&self, line: &str) -> Result<(), Failure> {
        if self.trace == Some(STDOUT) { Ok(()) } else { self.output.line(line) }
    }

    /// Whether there is to be a trace.
    pub(super) const fn has_trace(&self) -> bool {
        self.trace.is_some()
    }

    /// Writes the trace, if there is to be one.
    pub(super) fn trace(&self, nodes: usize, steps: bool, moments: &[Moment]) -> Result<(), Failure> {
        let Some(path) = self.trace else { return Ok(()) };
        if path == STDOUT {
            return self.output.raw(|stdout| jsonl::write(&mut BufWriter::new(stdout), nodes, steps, moments));
        }
        let written =
            File::create(path).and_then(|file| jsonl::write(&mut BufWriter::new(file), nodes, steps, moments));
        written.map_err(|error| Failure::local(format!("cannot write the trace to {path}: {error}")))
    }
}
